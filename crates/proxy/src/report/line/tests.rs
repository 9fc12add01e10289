use std::time::Duration;

use super::*;

fn line<'a>(path: &'a str, reason: &'a dyn fmt::Display) -> LogLine<'a> {
    LogLine {
        start_time: UNIX_EPOCH + Duration::from_millis(1_782_000_000_007),
        direction: "outbound",
        protocol: "HTTP/1.1",
        method: Some("GET"),
        authority: Some("helloworld:5000"),
        path: Some(path),
        request_id: None,
        response_code: 200,
        response_flags: Flags::NONE,
        reason,
        failure: None,
        attempts: 1,
        route_name: None,
        upstream_cluster: Some("outbound|5000||helloworld.default.svc.cluster.local"),
        upstream_host: Some("10.2.0.7:5000".parse().unwrap()),
        downstream_remote_address: "[fd00::2]:4000".parse().unwrap(),
        downstream_local_address: "255.0.10.199:65535".parse().unwrap(),
        requested_server_name: None,
        upstream_peer: None,
        downstream_peer: None,
        bytes_received: 0,
        bytes_sent: u64::MAX,
        duration: 30,
    }
}

fn written(line: &LogLine<'_>) -> String {
    let mut out = Vec::new();
    line.write(&mut out, &mut Calendar::default());
    String::from_utf8(out).unwrap()
}

#[test]
fn a_line_is_one_object_with_its_fields_in_order() {
    assert_eq!(
        written(&line("/hello", &"round robin")),
        concat!(
            r#"{"start_time":"2026-06-21T00:00:00.007Z","direction":"outbound","protocol":"HTTP/1.1","method":"GET","#,
            r#""authority":"helloworld:5000","path":"/hello","response_code":200,"response_flags":"-","reason":"round robin","#,
            r#""attempts":1,"upstream_cluster":"outbound|5000||helloworld.default.svc.cluster.local","#,
            r#""upstream_host":"10.2.0.7:5000","downstream_remote_address":"[fd00::2]:4000","#,
            r#""downstream_local_address":"255.0.10.199:65535","bytes_received":0,"bytes_sent":18446744073709551615,"duration":30}"#,
            "\n"
        )
    );
}

#[test]
fn no_text_breaks_out_of_its_string() {
    let all: String = (0..0x180u32).filter_map(char::from_u32).collect();
    let nasty = format!("\"}}\n{{\"a\":1,{all}\\");
    let text = written(&line(&nasty, &nasty));
    assert_eq!(text.lines().count(), 1, "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["path"], nasty.as_str());
    assert_eq!(value["reason"], nasty.as_str());
    assert_eq!(value["duration"], 30);
}

#[test]
fn the_text_of_a_second_is_not_kept_for_another() {
    let mut calendar = Calendar::default();
    let mut at = |millis| {
        let mut out = Vec::new();
        calendar.write(&mut out, UNIX_EPOCH + Duration::from_millis(millis));
        String::from_utf8(out).unwrap()
    };
    assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(at(999), "1970-01-01T00:00:00.999Z");
    assert_eq!(at(1_709_164_800_050), "2024-02-29T00:00:00.050Z");
    assert_eq!(at(1_709_164_799_950), "2024-02-28T23:59:59.950Z");
}
