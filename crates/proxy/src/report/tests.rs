use std::time::SystemTime;

use super::*;

fn subject(service: &str) -> Subject {
    Subject {
        service: Arc::from(service),
        ..Subject::overflow()
    }
}

fn done(code: u16, flags: Flags) -> RequestDone {
    RequestDone {
        protocol: Protocol::Http,
        code,
        grpc_status: None,
        flags,
        duration: Duration::from_millis(7),
        request_bytes: 10,
        response_bytes: 100_000,
    }
}

/// Lines of `text` that begin with `name` and hold all of `parts`, by their last word.
fn value(text: &str, name: &str, parts: &[&str]) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with(name) && parts.iter().all(|part| line.contains(part)))
        .map(|line| line.rsplit(' ').next().unwrap().to_owned())
        .collect()
}

#[test]
fn workers_are_added_up_under_istios_names() {
    let report = Report::start(None).unwrap();
    let (one, two) = (report.scribe(), report.scribe());
    for scribe in [&one, &two, &two] {
        let id = scribe.subject(&subject("helloworld.default.svc.cluster.local"));
        scribe.request(id, &done(200, Flags::NONE));
    }
    let id = two.subject(&subject("other"));
    two.request(id, &done(503, Flags::UPSTREAM_CONNECT.and(Flags::ATTEMPTS)));
    two.opened(id);
    two.closed(id, Flags::NONE, 5, 9);
    drop(one);
    let text = report.prometheus();
    let hello = "destination_service=\"helloworld.default.svc.cluster.local\"";
    assert_eq!(
        value(
            &text,
            "istio_requests_total",
            &[hello, "response_code=\"200\""]
        ),
        ["3"]
    );
    assert_eq!(
        value(
            &text,
            "istio_requests_total",
            &["response_flags=\"UF,URX\""]
        ),
        ["1"]
    );
    let duration = "istio_request_duration_milliseconds_bucket";
    assert_eq!(value(&text, duration, &[hello, "le=\"5\""]), ["0"]);
    assert_eq!(value(&text, duration, &[hello, "le=\"10\""]), ["3"]);
    assert_eq!(
        value(
            &text,
            "istio_response_bytes_bucket",
            &[hello, "le=\"65536\""]
        ),
        ["0"]
    );
    assert_eq!(
        value(&text, "istio_tcp_sent_bytes_total", &["other"]),
        ["9"]
    );
    assert_eq!(
        value(&text, "istio_tcp_received_bytes_total", &["other"]),
        ["5"]
    );
    assert_eq!(
        value(&text, "istio_tcp_connections_closed_total", &["other"]),
        ["1"]
    );
}

#[test]
fn callers_who_invent_names_cannot_grow_it_without_end() {
    let report = Report::start(None).unwrap();
    let scribe = report.scribe();
    for number in 0..SUBJECT_LIMIT + 500 {
        let id = scribe.subject(&subject(&format!("host-{number}")));
        scribe.request(id, &done(200, Flags::NONE));
    }
    let text = report.prometheus();
    assert_eq!(
        value(
            &text,
            "istio_requests_total",
            &["destination_service=\"unknown\""]
        ),
        ["500"]
    );
}

#[test]
fn label_values_cannot_break_out() {
    let report = Report::start(None).unwrap();
    let scribe = report.scribe();
    let id = scribe.subject(&subject("a\"} 1\nevil{x=\"\\"));
    scribe.request(id, &done(200, Flags::NONE));
    let text = report.prometheus();
    assert!(
        text.contains(r#"destination_service="a\"} 1\nevil{x=\"\\""#),
        "{text}"
    );
    assert!(!text.lines().any(|line| line.starts_with("evil")));
}

struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn line<'a>(reason: &'a &'a str) -> LogLine<'a> {
    LogLine {
        start_time: SystemTime::UNIX_EPOCH,
        direction: "outbound",
        protocol: "HTTP/1.1",
        method: Some("GET"),
        authority: Some("helloworld:5000"),
        path: Some("/hello"),
        request_id: None,
        response_code: 200,
        response_flags: Flags::NONE,
        reason,
        failure: None,
        attempts: 1,
        route_name: None,
        upstream_cluster: Some("outbound|5000||helloworld.default.svc.cluster.local"),
        upstream_host: Some("10.2.0.7:5000".parse().unwrap()),
        downstream_remote_address: "10.1.0.2:4000".parse().unwrap(),
        downstream_local_address: "10.96.0.9:5000".parse().unwrap(),
        requested_server_name: None,
        upstream_peer: None,
        downstream_peer: None,
        bytes_received: 0,
        bytes_sent: 40,
        duration: 3,
    }
}

#[test]
fn the_log_is_one_json_object_a_line() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let report = Report::start(Some(Box::new(Shared(written.clone())))).unwrap();
    let scribe = report.scribe();
    scribe.log(&line(&"round robin"));
    scribe.log(&line(&"line\nbreak"));
    drop(scribe);
    drop(report);
    let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["reason"], "round robin");
    assert_eq!(lines[0]["response_flags"], "-");
    assert_eq!(lines[1]["reason"], "line\nbreak");
}

/// A disk that takes its first byte when told to.
struct Stuck(std::sync::mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_disk_costs_lines_and_not_time() {
    let (release, stuck) = std::sync::mpsc::channel();
    let report = Report::start(Some(Box::new(Stuck(stuck)))).unwrap();
    let scribe = report.scribe();
    let chunks = LOG_QUEUE + 10;
    for _ in 0..chunks {
        scribe.log(&line(&"round robin"));
        scribe.flush();
    }
    let dropped: usize = value(
        &report.prometheus(),
        "catamaran_access_log_lines_dropped_total",
        &[],
    )[0]
    .parse()
    .unwrap();
    assert!((9..=10).contains(&dropped), "{dropped}");
    drop(release);
    drop(scribe);
}
