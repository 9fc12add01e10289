use catamaran_identity::ceremony;
use catamaran_model::{ClusterId, MeshName};

use super::*;

const START: Timestamp = Timestamp(1_800_000_000_000);

fn after(seconds: u64) -> Timestamp {
    START.after(Duration::from_secs(seconds))
}

struct Files {
    folder: tempfile::TempDir,
    root: catamaran_identity::Root,
}

impl Files {
    fn new() -> Files {
        let domain = TrustDomain::default();
        let mesh = MeshName::new("mesh-1").unwrap();
        Files {
            folder: tempfile::tempdir().unwrap(),
            root: ceremony::create_root(&domain, &mesh, START).unwrap(),
        }
    }

    /// Puts another intermediate there, as a kubelet does with a changed Secret.
    fn replace(&self) -> Fingerprint {
        let (domain, mesh) = (TrustDomain::default(), MeshName::new("mesh-1").unwrap());
        let cluster = ClusterId::new("cluster-1").unwrap();
        let next = ceremony::issue_intermediate(&self.root, &domain, &mesh, &cluster, START);
        let next = next.unwrap();
        for (name, text) in next.files().entries() {
            std::fs::write(self.folder.path().join(name), text).unwrap();
        }
        next.fingerprint()
    }

    fn keeping(&self, hold: Duration) -> Keeping {
        let place = Place {
            cacerts: self.folder.path().into(),
            state: self.folder.path().into(),
            hold,
        };
        let process = Process::start(catamaran_process::Config::quiet("test"));
        Keeping {
            authority: Arc::new(Authority::new(&place)),
            gate: process.gate("issuer"),
            place,
            seen: None,
            coming: None,
            noted: Timestamp(0),
        }
    }
}

fn signs(keeping: &Keeping) -> Fingerprint {
    keeping.authority.issuer().unwrap().fingerprint()
}

#[test]
fn peers_are_told_of_an_intermediate_before_it_signs_and_the_one_before_stays_good() {
    let (files, domain) = (Files::new(), TrustDomain::default());
    let mut keeping = files.keeping(Duration::from_secs(90));
    let first = files.replace();
    keeping.look(&domain, START);
    assert_eq!(signs(&keeping), first, "the first one waits for nobody");

    let second = files.replace();
    let mut told = keeping.authority.changes();
    told.borrow_and_update();
    keeping.look(&domain, after(10));
    assert!(told.has_changed().unwrap(), "the export is written anew");
    assert_eq!(signs(&keeping), first);
    assert!(keeping.authority.intermediates(after(10)).contains(&second));

    keeping.look(&domain, after(99));
    assert_eq!(signs(&keeping), first);
    keeping.look(&domain, after(100));
    assert_eq!(signs(&keeping), second);
    let known = keeping.authority.intermediates(after(100));
    assert!(known.contains(&first) && known.contains(&second));
}

#[test]
fn another_one_that_comes_meanwhile_waits_its_own_time() {
    let (files, domain) = (Files::new(), TrustDomain::default());
    let mut keeping = files.keeping(Duration::from_secs(90));
    let first = files.replace();
    keeping.look(&domain, START);
    files.replace();
    keeping.look(&domain, after(10));
    let third = files.replace();
    keeping.look(&domain, after(60));
    keeping.look(&domain, after(110));
    assert_eq!(signs(&keeping), first, "the third is known for 50 s only");
    keeping.look(&domain, after(150));
    assert_eq!(signs(&keeping), third);
}

#[test]
fn alone_in_a_fleet_it_signs_at_once() {
    let (files, domain) = (Files::new(), TrustDomain::default());
    let mut keeping = files.keeping(Duration::ZERO);
    files.replace();
    keeping.look(&domain, START);
    let second = files.replace();
    keeping.look(&domain, after(1));
    assert_eq!(signs(&keeping), second);
}
