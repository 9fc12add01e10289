use std::fmt;
use std::sync::Arc;

/// A route configuration: which virtual host an authority means, and which of its routes a request takes.
#[derive(Debug)]
pub struct RouteTable {
    pub(crate) name: Arc<str>,
}

impl RouteTable {
    /// Its name, `5000` or `inbound|5000||`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// `5000/helloworld.default.svc.cluster.local:5000 /`
    pub(crate) fn describe(
        &self,
        _host: u32,
        _route: Option<u32>,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        f.write_str(&self.name)
    }
}
