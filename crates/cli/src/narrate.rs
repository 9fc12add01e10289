//! How jobs are told: a line for each thing that holds, with a glyph and its time. Nothing lives in colour alone.

use catamaran_operate::{Moment, Step, StepState};

/// The glyphs, and whether there is colour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glyphs {
    pub(crate) pass: &'static str,
    pub(crate) fail: &'static str,
    pub(crate) warn: &'static str,
    pub(crate) skip: &'static str,
    pub(crate) idle: &'static str,
    pub(crate) busy: &'static str,
}

impl Glyphs {
    pub(crate) fn new(ascii: bool) -> Glyphs {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match ascii || dumb {
            true => Glyphs {
                pass: "ok",
                fail: "x",
                warn: "!",
                skip: "-",
                idle: "o",
                busy: "*",
            },
            false => Glyphs {
                pass: "✓",
                fail: "✗",
                warn: "!",
                skip: "–",
                idle: "○",
                busy: "…",
            },
        }
    }
}

/// Tells the steps of a job.
#[derive(Debug)]
pub(crate) struct Narrator {
    glyphs: Glyphs,
    terminal: bool,
    colour: bool,
    open: bool,
}

impl Narrator {
    /// `terminal`: lines may be written over.
    pub(crate) fn new(glyphs: Glyphs, terminal: bool) -> Narrator {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = terminal && !dumb;
        Narrator {
            glyphs,
            terminal,
            colour: terminal && !set("NO_COLOR"),
            open: false,
        }
    }

    /// Small jobs: one line a step, the notes after it.
    pub(crate) fn small(&mut self, step: &Step, moment: Moment) -> String {
        match moment {
            Moment::Begun if self.terminal => self.busy(&step.name),
            Moment::Begun | Moment::Command | Moment::Noted => String::new(),
            Moment::Ended => {
                let notes = step
                    .notes
                    .iter()
                    .map(|note| note.text.as_str())
                    .collect::<Vec<_>>();
                let notes = match notes.is_empty() {
                    true => String::new(),
                    false => format!("   {}", notes.join("; ")),
                };
                let line = format!("{}{notes}", time(&step.name, step.seconds));
                match step.state {
                    // Its cause follows as the verb's error.
                    StepState::Failed => self.line(self.glyphs.fail, RED, &step.name),
                    _ => self.line(self.glyphs.pass, GREEN, &line),
                }
            }
        }
    }

    /// The demo: a heading a step, its commands, and a line for each thing that holds.
    pub(crate) fn large(&mut self, step: &Step, moment: Moment) -> String {
        match moment {
            Moment::Begun => {
                let open = self.close();
                format!("{open}\n{}\n", self.paint(BOLD, &step.name))
            }
            Moment::Command => {
                let command = step.commands.last().map_or("", String::as_str);
                let open = self.close();
                let line = format!("  $ {command}");
                let busy = if self.terminal {
                    self.busy("")
                } else {
                    String::new()
                };
                format!("{open}{}\n{busy}", self.paint(DIM, &line))
            }
            Moment::Noted => {
                let Some(note) = step.notes.last() else {
                    return String::new();
                };
                let glyph = if note.text.starts_with('!') {
                    self.glyphs.warn
                } else {
                    self.glyphs.pass
                };
                let text = match note.seconds {
                    Some(seconds) => time(&note.text, seconds),
                    None => note.text.clone(),
                };
                self.line(glyph, GREEN, &text)
            }
            Moment::Ended if step.state == StepState::Failed => {
                let mut text = self.line(self.glyphs.fail, RED, &time("failed", step.seconds));
                for (word, said) in [("cause", &step.cause), ("fix", &step.fix)] {
                    if let Some(said) = said {
                        text.push_str(&format!("      {word:<7} {said}\n"));
                    }
                }
                text
            }
            Moment::Ended => self.close(),
        }
    }

    /// A step that was never begun.
    pub(crate) fn not_run(&self, step: &Step) -> String {
        format!("{} not run  {}\n", self.glyphs.idle, step.name)
    }

    fn busy(&mut self, name: &str) -> String {
        self.open = true;
        format!("  {} {name}", self.glyphs.busy)
    }

    fn close(&mut self) -> String {
        match std::mem::take(&mut self.open) {
            true => "\r\x1b[K".into(),
            false => String::new(),
        }
    }

    fn line(&mut self, glyph: &str, colour: &str, text: &str) -> String {
        format!("{}  {} {text}\n", self.close(), self.paint(colour, glyph))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{colour}m{text}\x1b[0m"),
            false => text.into(),
        }
    }
}

const GREEN: &str = "32";
const RED: &str = "31";
const BOLD: &str = "1";
const DIM: &str = "2";

fn time(text: &str, seconds: f64) -> String {
    let width = 60;
    let pad = width - text.chars().count().min(width);
    format!("{text}{:pad$}  {seconds:>5.1} s", "")
}
