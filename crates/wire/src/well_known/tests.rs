use super::*;

#[test]
fn durations_go_there_and_back() {
    let span = std::time::Duration::new(5, 250_000_000);
    assert_eq!(
        Duration::from(span),
        Duration {
            seconds: 5,
            nanos: 250_000_000
        }
    );
    assert_eq!(
        std::time::Duration::try_from(Duration::from(span)),
        Ok(span)
    );
    assert_eq!(Duration::from(std::time::Duration::MAX).seconds, i64::MAX);
}

#[test]
fn a_span_below_zero_is_refused() {
    let refused = |seconds, nanos| {
        std::time::Duration::try_from(Duration { seconds, nanos })
            .unwrap_err()
            .to_string()
    };
    assert_eq!(refused(-1, 0), "not a time span: -1 s and 0 ns");
    assert_eq!(refused(0, -5), "not a time span: 0 s and -5 ns");
    assert_eq!(
        refused(1, 1_000_000_000),
        "not a time span: 1 s and 1000000000 ns"
    );
}

#[test]
fn the_order_of_insertion_leaves_no_trace_in_the_bytes() {
    let names = [
        "CLUSTER_ID",
        "NETWORK",
        "MESH_ID",
        "NAMESPACE",
        "INTERCEPTION_MODE",
        "LABELS",
    ];
    let forwards: Struct = names.iter().map(|name| (*name, *name)).collect();
    let backwards: Struct = names.iter().rev().map(|name| (*name, *name)).collect();
    assert_eq!(forwards.encode_to_vec(), backwards.encode_to_vec());
}

#[test]
fn a_value_nested_to_exhaust_the_stack_is_an_error() {
    let mut bytes = Vec::new();
    for _ in 0..10_000 {
        let mut list = Vec::new();
        prost::encoding::bytes::encode(1, &bytes, &mut list);
        bytes.clear();
        prost::encoding::bytes::encode(6, &list, &mut bytes);
    }
    let error = Value::decode(bytes.as_slice()).unwrap_err().to_string();
    assert!(error.contains("recursion limit"), "{error}");
}
