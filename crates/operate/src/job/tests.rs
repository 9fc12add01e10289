use std::sync::mpsc;

use super::*;

#[test]
fn a_watcher_hears_each_step_and_what_is_not_begun_stays_not_run() {
    let (tell, heard) = mpsc::channel();
    let mut job = Job::watched(move |n, step, moment| {
        let _ = tell.send(format!("{n} {} {:?} {moment:?}", step.name, step.state));
    });
    job.plan(["one", "two", "three"]);
    job.begin("one");
    job.note("half way");
    job.end(Ok::<(), OperateError>(())).unwrap();
    job.begin("two");
    job.end(Err::<(), _>(OperateError::NoFleet)).unwrap_err();
    let heard: Vec<String> = heard.try_iter().collect();
    assert_eq!(
        heard,
        [
            "0 one Running Begun",
            "0 one Running Noted",
            "0 one Held Ended",
            "1 two Running Begun",
            "1 two Failed Ended"
        ]
    );
    let states: Vec<StepState> = job.steps().iter().map(|step| step.state).collect();
    assert_eq!(
        states,
        [StepState::Held, StepState::Failed, StepState::NotRun]
    );
    assert!(!job.held());
    let failed = &job.steps()[1];
    assert!(
        failed
            .cause
            .as_deref()
            .is_some_and(|cause| cause.contains("no fleet"))
    );
    assert!(
        failed
            .fix
            .as_deref()
            .is_some_and(|fix| fix.contains("--fleet"))
    );
}
