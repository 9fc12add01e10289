//! A job: what an operation does, step by step, for whoever shows it. Nothing is printed here.

use std::fmt;
use std::time::Instant;

use serde::Serialize;

use crate::OperateError;

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It was not begun.
    NotRun,
    /// It is being done.
    Running,
    /// It is done, and what it promises holds.
    Held,
    /// It failed; see `cause` and `fix`.
    Failed,
}

/// One step of a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// What it does.
    pub name: String,
    /// How far it is.
    pub state: StepState,
    /// How long it took, or has taken.
    pub seconds: f64,
    /// The commands a person would have typed for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// What was done in it, each with the seconds it took.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// Something that holds within a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Note {
    /// What.
    pub text: String,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// What happened to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It began.
    Begun,
    /// It has a new command that a person would have typed, the last one.
    Command,
    /// It has a new note, the last one.
    Noted,
    /// It ended.
    Ended,
}

type Watcher = Box<dyn FnMut(usize, &Step, Moment) + Send>;

/// What an operation does.
pub struct Job {
    steps: Vec<Step>,
    current: Option<(usize, Instant)>,
    lap: Instant,
    watcher: Watcher,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

impl Job {
    /// A job that nobody looks at.
    pub fn unwatched() -> Job {
        Job::watched(|_, _, _| {})
    }

    /// A job that tells `watcher` of each step, with the step's number from 0.
    pub fn watched(watcher: impl FnMut(usize, &Step, Moment) + Send + 'static) -> Job {
        Job {
            steps: Vec::new(),
            current: None,
            lap: Instant::now(),
            watcher: Box::new(watcher),
        }
    }

    /// Names steps that will come, so that those which are never begun are seen as such.
    pub fn plan<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        self.steps.extend(names.into_iter().map(|name| Step {
            name: name.into(),
            state: StepState::NotRun,
            seconds: 0.0,
            commands: Vec::new(),
            notes: Vec::new(),
            cause: None,
            fix: None,
        }));
    }

    /// Begins a step: the one of this name that was planned, else a new one.
    pub fn begin(&mut self, name: &str) {
        let planned = |step: &Step| step.name == name && step.state == StepState::NotRun;
        let index = match self.steps.iter().position(planned) {
            Some(index) => index,
            None => {
                self.plan([name]);
                self.steps.len() - 1
            }
        };
        let now = Instant::now();
        self.steps[index].state = StepState::Running;
        self.current = Some((index, now));
        self.lap = now;
        self.tell(Moment::Begun);
    }

    /// Says the command a person would have typed for what comes next.
    pub fn command(&mut self, command: impl Into<String>) {
        if let Some((index, _)) = self.current {
            self.steps[index].commands.push(command.into());
            self.lap = Instant::now();
            self.tell(Moment::Command);
        }
    }

    /// Says that something holds now; its time runs from the last note, command or beginning.
    pub fn note(&mut self, text: impl Into<String>) {
        let seconds = Some(self.lap.elapsed().as_secs_f64());
        self.lap = Instant::now();
        self.push(Note {
            text: text.into(),
            seconds,
        });
    }

    /// Says something that took no time.
    pub fn remark(&mut self, text: impl Into<String>) {
        self.push(Note {
            text: text.into(),
            seconds: None,
        });
    }

    fn push(&mut self, note: Note) {
        if let Some((index, _)) = self.current {
            self.steps[index].notes.push(note);
            self.tell(Moment::Noted);
        }
    }

    /// Ends the step that was begun, by what came of it.
    pub fn end<T, E: Into<OperateError>>(
        &mut self,
        outcome: Result<T, E>,
    ) -> Result<T, OperateError> {
        let outcome = outcome.map_err(Into::into);
        if let Some((index, since)) = self.current {
            let step = &mut self.steps[index];
            step.seconds = since.elapsed().as_secs_f64();
            match &outcome {
                Ok(_) => step.state = StepState::Held,
                Err(error) => {
                    step.state = StepState::Failed;
                    let facts = error.facts().join("; ");
                    step.cause = Some(match facts.is_empty() {
                        true => error.to_string(),
                        false => format!("{error}; {facts}"),
                    });
                    step.fix = error.fix();
                }
            }
            self.tell(Moment::Ended);
            self.current = None;
        }
        outcome
    }

    /// The steps as they are.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether every step was done.
    pub fn held(&self) -> bool {
        self.steps.iter().all(|step| step.state == StepState::Held)
    }

    fn tell(&mut self, moment: Moment) {
        if let Some((index, _)) = self.current {
            (self.watcher)(index, &self.steps[index], moment);
        }
    }
}

#[cfg(test)]
mod tests;
