//! Our proxy against Envoy, on the same bootstraps.
//!
//! One process is the caller ([`Load`]) and the [`Backend`], on its own core; the proxies are processes of their own on another core.
//! [`Row`] is one comparison, [`run`] does them all in rounds and [`Report`] makes the tables.

mod backend;
mod bootstrap;
mod certificates;
mod histogram;
mod load;
mod machine;
mod program;
mod report;
mod row;
mod run;

pub use backend::Backend;
pub use bootstrap::{Bootstrap, Place, Speaks};
pub use certificates::Certificates;
pub use histogram::Histogram;
pub use load::{Load, Loaded, Pace};
pub use machine::Machine;
pub use program::{Kind, Program, Programs};
pub use report::{Record, Report};
pub use row::{Figure, Row};
pub use run::{Plan, run};
