use super::*;

#[tokio::test]
async fn a_task_that_fails_stops_the_process_by_name() {
    let process = Process::start(Config::quiet("test"));
    process.run("bad", async { Err::<(), _>("no disk") });
    assert_eq!(
        process.until_stopped().await,
        End::Failed("bad: no disk".into())
    );
}

#[tokio::test]
async fn a_task_that_ends_early_is_a_failure_too() {
    let process = Process::start(Config::quiet("test"));
    process.run("short", async { Ok::<(), &str>(()) });
    let end = process.until_stopped().await;
    assert_eq!(end, End::Failed("short ended by itself".into()));
    assert_eq!(end.exit_code(), 1);
}

#[tokio::test]
async fn readiness_follows_every_gate() {
    let process = Process::start(Config::quiet("test"));
    let (a, b) = (process.gate("a"), process.gate("b"));
    a.open();
    assert!(!process.is_ready());
    b.open();
    process.until_ready().await;
    a.close();
    assert_eq!(process.waiting_for(), ["a"]);
    a.open();
    process.stop("enough");
    process.until_stopped().await;
    assert!(!process.is_ready(), "a stopping process is not ready");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_does_not_end_is_dropped_after_the_drain_time() {
    let process = Process::start(Config::quiet("test"));
    process.run("stuck", async {
        std::future::pending::<()>().await;
        Ok::<(), &str>(())
    });
    process.stop("enough");
    let before = tokio::time::Instant::now();
    process.until_stopped().await;
    assert_eq!(before.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_last_tasks_answer_until_the_others_have_ended() {
    let process = Process::start(Config::quiet("test"));
    let (stopping, drained) = (process.stopping(), process.drained());
    process.run("traffic", async move {
        stopping.wait().await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        Ok::<(), &str>(())
    });
    let (tell, told) = tokio::sync::oneshot::channel();
    process.run_to_the_end("health", async move {
        drained.wait().await;
        let _ = tell.send(tokio::time::Instant::now());
        Ok::<(), &str>(())
    });
    process.run_to_the_end("stuck", async {
        std::future::pending::<Result<(), &str>>().await
    });
    process.stop("enough");
    let before = tokio::time::Instant::now();
    assert_eq!(process.until_stopped().await, End::Asked("enough".into()));
    assert_eq!((told.await.unwrap() - before).as_secs(), 4);
    assert_eq!(before.elapsed().as_secs(), 5, "a second for what is stuck");
}

#[tokio::test]
async fn a_last_task_that_fails_stops_the_process_too() {
    let process = Process::start(Config::quiet("test"));
    process.run_to_the_end("health", async { Err::<(), _>("no socket") });
    let end = process.until_stopped().await;
    assert_eq!(end, End::Failed("health: no socket".into()));
}

#[tokio::test]
async fn metrics_are_text_with_their_own_sources() {
    let process = Process::start(Config::quiet("test"));
    process
        .metrics()
        .counter("changes", "Changes applied")
        .inc();
    process
        .metrics()
        .add_source(|text| text.push_str("# TYPE own gauge\nown 7\n"));
    let text = process.metrics().render();
    assert!(
        text.contains("own 7\n") && text.contains("changes_total 1\n"),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"));
}
