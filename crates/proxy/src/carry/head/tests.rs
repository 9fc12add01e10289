use super::*;

fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

fn refused(method: &str, uri: &str, headers: &[(&str, &str)]) -> HeadError {
    Head::take(&mut request(method, uri, headers)).unwrap_err()
}

#[test]
fn what_is_for_one_hop_stays_there() {
    let mut asked = request(
        "GET",
        "/a?b",
        &[
            ("host", "hello:5000"),
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-kept", "2"),
        ],
    );
    let head = Head::take(&mut asked).unwrap();
    assert_eq!(head.authority(), "hello:5000");
    assert!(
        head.upgrade.is_none(),
        "upgrade without Connection: upgrade is nothing"
    );
    let mut left: Vec<_> = head
        .headers
        .iter()
        .map(|(n, v)| format!("{n}={}", v.to_str().unwrap()))
        .collect();
    left.sort();
    assert_eq!(left, ["te=trailers", "x-kept=2"]);
    let http2 = head.http2(head.headers.clone(), ());
    assert_eq!(http2.uri().to_string(), "http://hello:5000/a?b");
    let http1 = head.http1(head.headers.clone(), String::new());
    assert_eq!(http1.uri().to_string(), "/a?b");
    assert_eq!(http1.headers()["host"], "hello:5000");
}

#[test]
fn an_upgrade_is_asked_for_again() {
    let asked = &[
        ("host", "a"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
    ];
    let head = Head::take(&mut request("GET", "/", asked)).unwrap();
    let sent = head.http1(head.headers.clone(), String::new());
    assert_eq!(sent.headers()["connection"], "upgrade");
    assert_eq!(sent.headers()["upgrade"], "websocket");
}

#[test]
fn requests_that_mean_two_things_are_refused() {
    assert_eq!(refused("CONNECT", "a:1", &[]), HeadError::Connect);
    assert_eq!(refused("GET", "/", &[]), HeadError::NoHost);
    assert_eq!(refused("GET", "/", &[("host", "")]), HeadError::NoHost);
    assert_eq!(
        refused("GET", "/", &[("host", "a"), ("host", "b")]),
        HeadError::ManyHosts
    );
    assert_eq!(
        refused("GET", "/", &[("host", "user@a")]),
        HeadError::BadHost
    );
    assert_eq!(refused("GET", "/", &[("host", "a b")]), HeadError::BadHost);
    assert_eq!(refused("GET", "/", &[("host", "a/b")]), HeadError::BadHost);
    assert_eq!(refused("GET", "*", &[("host", "a")]), HeadError::BadPath);
    assert_eq!(refused("GET", "a", &[]), HeadError::BadPath);
    let mut two = request("GET", "http://a/", &[("host", "b")]);
    *two.version_mut() = Version::HTTP_2;
    assert_eq!(Head::take(&mut two).unwrap_err(), HeadError::ManyHosts);
}

#[test]
fn the_absolute_form_overrides_host() {
    let head = Head::take(&mut request(
        "GET",
        "http://hello:5000/x",
        &[("host", "other")],
    ))
    .unwrap();
    assert_eq!(head.authority(), "hello:5000");
    assert_eq!(head.path, "/x");
    assert!(Head::take(&mut request("OPTIONS", "*", &[("host", "a")])).is_ok());
}

#[test]
fn pieces_of_a_cookie_are_one_in_http1() {
    let asked = &[("host", "a"), ("cookie", "a=1"), ("cookie", "b=2; c=3")];
    let head = Head::take(&mut request("GET", "/", asked)).unwrap();
    let sent = head.http1(head.headers.clone(), String::new());
    let cookies: Vec<_> = sent.headers().get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=1; b=2; c=3"]);
    assert_eq!(
        head.http2(head.headers.clone(), ())
            .headers()
            .get_all("cookie")
            .iter()
            .count(),
        2
    );
}

#[test]
fn a_body_of_unknown_length_is_framed_whatever_the_method() {
    let mut request = Request::get("http://a.test/")
        .header(HOST, "a.test")
        .body(())
        .unwrap();
    let head = Head::take(&mut request).unwrap();
    let sent = head.http1(head.headers.clone(), String::from("a body"));
    assert_eq!(sent.headers()[TRANSFER_ENCODING], "chunked");
    let sent = head.http1(head.headers.clone(), String::new());
    assert!(
        !sent.headers().contains_key(TRANSFER_ENCODING),
        "there is none"
    );
}

#[test]
fn codings_that_are_not_chunked_once_are_refused() {
    let refused = |values: &[&'static str]| {
        let mut request = Request::post("/").header(HOST, "a.test").body(()).unwrap();
        for value in values {
            let value = HeaderValue::from_static(value);
            request.headers_mut().append(TRANSFER_ENCODING, value);
        }
        Head::take(&mut request).err()
    };
    assert_eq!(refused(&["Chunked "]), None);
    for values in [
        &["chunked, chunked"][..],
        &["gzip, chunked"],
        &["gzip", "chunked"],
        &["chunked", "chunked"],
        &[""],
    ] {
        assert_eq!(refused(values), Some(HeadError::Coding), "{values:?}");
    }
}

#[test]
fn a_fragment_is_no_path() {
    let mut asked = request("GET", "http://hello:5000#top", &[("host", "hello:5000")]);
    let head = Head::take(&mut asked).unwrap();
    let sent = head.http1(HeaderMap::new(), String::new());
    assert_eq!(
        sent.uri().to_string(),
        "/",
        "an empty target would be no request line"
    );
}

#[test]
fn another_authority_goes_out_in_both_protocols() {
    let mut asked = request("GET", "/", &[("host", "a.test:80")]);
    let mut head = Head::take(&mut asked).unwrap();
    head.rename("a.test".into());
    let old = head.http1(HeaderMap::new(), String::new());
    assert_eq!(old.headers()[HOST], "a.test");
    let new = head.http2(HeaderMap::new(), String::new());
    assert_eq!(new.uri().authority().unwrap(), "a.test");
    head.rename("not an authority".into());
    assert_eq!(head.authority(), "a.test");
}
