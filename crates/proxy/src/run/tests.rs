use super::*;

#[test]
fn a_pod_of_a_deployment_is_told_by_its_deployment() {
    for (pod, name) in [
        ("helloworld-v1-7b888c5d9f-x2x4z", "helloworld-v1"),
        ("sleep-0", "sleep-0"),
        ("eastwest-gateway", "eastwest-gateway"),
        ("my-long-named-thing", "my-long-named-thing"),
    ] {
        assert_eq!(workload(pod), name);
    }
}
