use super::*;

fn takes(text: &str) -> Request {
    let (request, length) = request(text.as_bytes()).unwrap().unwrap();
    assert_eq!(length, text.len(), "{text:?}");
    request
}

#[test]
fn what_means_one_thing_is_taken() {
    let get = takes("GET /a HTTP/1.1\r\nHost: b\r\n\r\n");
    assert_eq!(
        (&*get.method, &*get.target, get.header("host")),
        ("GET", "/a", Some("b"))
    );
    assert_eq!(
        takes("POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\n\r\nhi").body,
        b"hi"
    );
    let chunked = "POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: 1\r\n\r\n";
    assert_eq!(takes(chunked).body, b"hi");
    for end in 0..chunked.len() {
        assert_eq!(request(&chunked.as_bytes()[..end]), Ok(None), "{end}");
    }
}

#[test]
fn what_could_mean_two_things_is_refused() {
    for wrong in [
        "GET /a HTTP/1.1\nHost: b\r\n\r\n",
        "GET  /a HTTP/1.1\r\nhost: b\r\n\r\n",
        "GET /a HTTP/1.0\r\nhost: b\r\n\r\n",
        "GET /a HTTP/1.1\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: b\r\nhost: c\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost : b\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: b\r\n folded\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: b\r\nx: \0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi",
        "POST / HTTP/1.1\r\nhost: b\r\ncontent-length: +2\r\n\r\nhi",
        "POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
    ] {
        assert!(request(wrong.as_bytes()).is_err(), "{wrong:?}");
    }
}
