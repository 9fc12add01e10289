use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn encode(bytes: &[u8]) -> String {
    base64::encode(bytes)
        .trim_end_matches('=')
        .replace('+', "-")
        .replace('/', "_")
}

fn unsigned(algorithm: &str, key: &str, payload: &Value) -> String {
    let header = json!({"alg": algorithm, "kid": key}).to_string();
    format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(payload.to_string().as_bytes())
    )
}

fn payload() -> Value {
    json!({
        "iss": "https://cluster-1", "sub": "system:serviceaccount:sample:sleep", "aud": ["istio-ca"],
        "exp": 1_800_000_600, "nbf": 1_799_999_000,
        "kubernetes.io": {"namespace": "sample", "pod": {"name": "sleep-1", "uid": "u"}},
    })
}

struct Signers {
    curve: EcdsaKeyPair,
    rsa: RsaKeyPair,
    keys: Keys,
}

fn signers() -> Signers {
    let curve = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let rsa = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let point = curve.public_key().as_ref();
    let public = rsa.public_key();
    let (n, e) = (public.modulus(), public.exponent());
    let set = [
        json!({"kty": "EC", "crv": "P-256", "kid": "curve", "x": encode(&point[1..33]), "y": encode(&point[33..])}),
        json!({"kty": "RSA", "kid": "rsa", "n": encode(n.big_endian_without_leading_zero()), "e": encode(e.big_endian_without_leading_zero())}),
        json!({"kty": "OKP", "kid": "other"}),
    ];
    assert!(!public.as_der().unwrap().as_ref().is_empty());
    let keys = Keys {
        issuer: "https://cluster-1".into(),
        keys: set.iter().filter_map(Key::of).collect(),
    };
    assert_eq!(keys.keys.len(), 2, "what is not known is passed over");
    Signers { curve, rsa, keys }
}

impl Signers {
    fn curve(&self, payload: &Value) -> String {
        let text = unsigned("ES256", "curve", payload);
        let signature = self
            .curve
            .sign(&SystemRandom::new(), text.as_bytes())
            .unwrap();
        format!("{text}.{}", encode(signature.as_ref()))
    }

    fn rsa(&self, payload: &Value) -> String {
        let text = unsigned("RS256", "rsa", payload);
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                text.as_bytes(),
                &mut signature,
            )
            .unwrap();
        format!("{text}.{}", encode(&signature))
    }

    fn check(&self, token: &str) -> Result<Holder, &'static str> {
        self.keys.check(token, &["istio-ca".to_owned()], NOW)
    }
}

#[test]
fn a_token_that_the_cluster_signed_says_whose_it_is() {
    let signers = signers();
    for token in [signers.curve(&payload()), signers.rsa(&payload())] {
        let holder = signers.check(&token).unwrap();
        assert_eq!(
            (holder.namespace.as_str(), holder.account.as_str()),
            ("sample", "sleep")
        );
        assert_eq!(holder.pod.unwrap().as_str(), "sleep-1");
        assert_eq!(holder.by, By::CachedKeys);
    }
    let mut one = payload();
    one["aud"] = "istio-ca".into();
    signers.check(&signers.curve(&one)).unwrap();
}

#[test]
fn nothing_else_is_believed() {
    let signers = signers();
    let with = |field: &str, value: Value| {
        let mut changed = payload();
        changed[field] = value;
        signers.curve(&changed)
    };
    for (token, why) in [
        (
            with("aud", json!(["https://kubernetes.default.svc"])),
            "another audience",
        ),
        (with("iss", json!("https://cluster-2")), "another cluster"),
        (with("exp", json!(1_800_000_000)), "expired"),
        (with("nbf", json!(1_800_000_100)), "not begun"),
        (with("sub", json!("system:node:a")), "no service account's"),
        (
            with("sub", json!("system:serviceaccount:UPPER:a")),
            "no service account's",
        ),
    ] {
        let said = signers.check(&token).unwrap_err();
        assert!(said.contains(why), "{said}");
    }

    let good = signers.curve(&payload());
    let (text, signature) = good.rsplit_once('.').unwrap();
    let (header, body) = text.split_once('.').unwrap();
    let mut other = payload();
    other["sub"] = "system:serviceaccount:sample:admin".into();
    let other = encode(other.to_string().as_bytes());
    let none = encode(
        json!({"alg": "none", "kid": "curve"})
            .to_string()
            .as_bytes(),
    );
    let mixed = encode(
        json!({"alg": "RS256", "kid": "curve"})
            .to_string()
            .as_bytes(),
    );
    for forged in [
        format!("{header}.{other}.{signature}"),
        format!("{none}.{body}."),
        format!("{none}.{body}.{signature}"),
        format!("{mixed}.{body}.{signature}"),
        format!("{header}.{body}.{}", encode(&[0; 64])),
        format!("{header}.{body}.{signature}A"),
        format!("{header}.{body}"),
        super::tests::signers().curve(&payload()),
        "..".into(),
        String::new(),
    ] {
        assert!(signers.check(&forged).is_err(), "{forged}");
    }
}
