//! The judge: it looks at every file and makes every fact again. A watch that is told names only must end where it does.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use catamaran_model::Region;
use catamaran_registry::FactKey;
use proptest::prelude::*;

use super::super::facts::{Rules, pod_of};
use super::*;
use crate::object::{Kind, Object, ObjectKey};

struct Judge {
    folder: PathBuf,
    objects: Folder,
    status: Folder,
    pods: BTreeMap<ObjectKey, Arc<Object>>,
    facts: BTreeMap<FactKey, Fact>,
    problems: Vec<Problem>,
}

impl Judge {
    fn new(folder: &Path) -> Judge {
        Judge {
            folder: folder.into(),
            objects: Folder::new(&folder.join("objects"), Holds::Manifests).settled(),
            status: Folder::new(&folder.join("status"), Holds::Status),
            pods: BTreeMap::new(),
            facts: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    fn look(&mut self) {
        let changed = [&mut self.objects, &mut self.status].map(|folder| folder.scan().unwrap());
        if changed.iter().all(Touched::is_empty) {
            return;
        }
        let (objects, mut problems) = self.objects.judged();
        let (status, more) = self.status.judged();
        problems.extend(more);
        let is_pod = |(key, _): &(&ObjectKey, &Arc<Object>)| key.kind == Kind::Pod;
        let mut pods: BTreeMap<ObjectKey, Arc<Object>> = (status.iter().filter(is_pod))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        let mut region: Option<Region> = None;
        for object in objects.values() {
            if let Object::Mesh(mesh) = &**object {
                region = region.or(mesh.spec().unwrap().region);
            }
        }
        let rules = Rules {
            loopback: false,
            region,
        };
        let mut facts = BTreeMap::new();
        let mut refused = Vec::new();
        for (key, object) in &objects {
            let made = rules.manifest(key, object, status.get(key).map(|object| &**object));
            facts.extend(made.fact.map(|fact| (fact.key(), fact)));
            refused.extend(made.refused.into_iter().map(|reason| (key, reason)));
        }
        for (key, object) in &status {
            let reasons = match &**object {
                Object::EndpointSlice(slice) => {
                    for pod in slice.endpoints.iter().filter_map(|one| pod_of(key, one)) {
                        if let Some(old) = self.pods.get(&pod) {
                            pods.entry(pod).or_insert(old.clone());
                        }
                    }
                    let made = rules.slice(key, slice, |pod| pods.get(pod));
                    facts.extend(made.fact.map(|fact| (fact.key(), fact)));
                    made.refused
                }
                Object::Service(service) => {
                    let (gateways, reasons) = rules.gateways(key, service);
                    let gateways = gateways.into_iter().map(Fact::Gateway);
                    facts.extend(gateways.map(|fact| (fact.key(), fact)));
                    reasons
                }
                _ => Vec::new(),
            };
            refused.extend(reasons.into_iter().map(|reason| (key, reason)));
        }
        for (key, reason) in refused {
            let place = self.status.place(key).or_else(|| self.objects.place(key));
            let (path, line) = place.unwrap();
            problems.push(Problem {
                file: path.strip_prefix(&self.folder).unwrap().into(),
                line: Some(line),
                severity: Severity::Error,
                object: key.to_string(),
                reason,
            });
        }
        self.pods = pods;
        self.facts = facts;
        self.problems = problems;
    }
}

/// Files that edits are made to; the documents of a folder may be in any of its files.
const FILES: [&str; 9] = [
    "objects/a.yaml",
    "objects/deep/b.yaml",
    "objects/z.yaml",
    "status/EndpointSlice/default/one.yaml",
    "status/EndpointSlice/default/two.yaml",
    "status/Pod/default/p-1.yaml",
    "status/Pod/default/several.yaml",
    "status/Service/default/hello.yaml",
    "status/more.yaml",
];

const MANIFESTS: [&str; 11] = [
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {istio-injection: enabled}}\n",
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n",
    HELLO,
    "apiVersion: v1\nkind: Service\nmetadata: {name: hello}\nspec: {ports: [{name: grpc, port: 5001}]}\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: bare}\nspec: {clusterIP: None, ports: [{port: 80}]}\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: hello}\nspec: {ports: many}\n",
    "apiVersion: catamaran.dev/v1alpha1\nkind: Mesh\nmetadata: {name: m}\nspec: {region: north}\n",
    "apiVersion: catamaran.dev/v1alpha1\nkind: Mesh\nmetadata: {name: a}\nspec: {region: south}\n",
    "apiVersion: catamaran.dev/v1alpha1\nkind: Cluster\nmetadata: {name: c}\nspec: {mode: Managed, gatewayAddresses: ['10.9.9.9:1']}\n",
    "apiVersion: v1\nkind: Gadget\nmetadata: {name: x}\n",
    "kind: nothing\n",
];

const STATUS: [&str; 16] = [
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p-1, labels: {security.istio.io/tlsMode: istio}}\nspec: {serviceAccountName: one}\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p-1}\nspec: {serviceAccountName: other}\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p-1, labels: {topology.istio.io/network: NOT A NAME}}\nspec: {serviceAccountName: one}\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p-2}\nspec: {serviceAccountName: two}\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p-3, namespace: other}\nspec: {serviceAccountName: three}\n",
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s-1, labels: {kubernetes.io/service-name: hello}}\nports: [{name: http, port: 5000}]\nendpoints: [{addresses: [10.1.1.1], targetRef: {kind: Pod, name: p-1}}, {addresses: [10.1.1.2], targetRef: {kind: Pod, name: p-2}}]\n",
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s-1, labels: {kubernetes.io/service-name: hello}}\nports: [{name: http, port: 5000}]\nendpoints: [{addresses: [10.1.1.2], targetRef: {kind: Pod, name: p-2}}]\n",
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s-1, labels: {kubernetes.io/service-name: bare}}\nendpoints: [{addresses: [127.0.0.1], targetRef: {kind: Pod, name: p-1}}]\n",
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s-2, labels: {kubernetes.io/service-name: hello}}\nports: [{name: http, port: 5000}]\nendpoints: [{addresses: [10.1.1.1], targetRef: {kind: Pod, name: p-1}}]\n",
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s-2}\nendpoints: []\n",
    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s-3, namespace: other, labels: {kubernetes.io/service-name: hello}}\nendpoints: [{addresses: [10.1.1.3], targetRef: {kind: Pod, name: p-3}}, {addresses: [10.1.1.4]}]\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: hello}\nspec: {clusterIP: 10.96.0.7, ports: [{port: 5000}]}\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: hello}\nspec: {clusterIP: nonsense, ports: [{port: 5000}]}\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: gw, labels: {topology.istio.io/network: n1}}\nspec: {ports: [{name: tls, port: 15443}]}\nstatus: {loadBalancer: {ingress: [{ip: 198.18.1.1}, {ip: 198.18.1.2}]}}\n",
    "apiVersion: v1\nkind: Service\nmetadata: {name: gw, namespace: other, labels: {topology.istio.io/network: n2}}\nspec: {ports: [{name: tls, port: 15443}]}\nstatus: {loadBalancer: {ingress: [{ip: 198.18.1.3}]}}\n",
    "apiVersion: v1\nkind: Gadget\nmetadata: {name: x}\n",
];

#[derive(Debug, Clone)]
enum Edit {
    /// These documents, of which the last is cut to so many of 8 parts.
    Write(usize, Vec<usize>, usize),
    Remove(usize),
    /// A link to another file, or out of the folder.
    Link(usize, Option<usize>),
    /// A folder with what is in it goes, and comes back with the next edit of this kind.
    Folder(usize),
}

/// What the watch hears of some edits.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hears {
    Names,
    Nothing,
}

fn edit() -> impl Strategy<Value = Edit> {
    let file = 0..FILES.len();
    let texts = prop::collection::vec(0..64usize, 0..4);
    prop_oneof![
        12 => (file.clone(), texts, prop_oneof![4 => Just(8usize), 1 => 0..8usize])
            .prop_map(|(file, texts, parts)| Edit::Write(file, texts, parts)),
        3 => file.clone().prop_map(Edit::Remove),
        1 => (file.clone(), prop::option::of(file)).prop_map(|(file, to)| Edit::Link(file, to)),
        1 => (0..3usize).prop_map(Edit::Folder),
    ]
}

struct Desk {
    c: Cluster,
    judge: Judge,
    told: BTreeMap<FactKey, Fact>,
    named: BTreeSet<PathBuf>,
}

impl Desk {
    fn new() -> Desk {
        let c = Cluster::new();
        let judge = Judge::new(c.dir.path());
        Desk {
            c,
            judge,
            told: BTreeMap::new(),
            named: BTreeSet::new(),
        }
    }

    fn path(&self, file: usize) -> PathBuf {
        self.c.dir.path().join(FILES[file])
    }

    fn edit(&mut self, edit: &Edit) {
        let of = |file: &usize| self.c.dir.path().join(FILES[*file]);
        match edit {
            Edit::Write(file, texts, parts) => {
                let all: &[&str] = match FILES[*file].starts_with("objects") {
                    true => &MANIFESTS,
                    false => &STATUS,
                };
                let mut text: String = (texts.iter())
                    .map(|n| format!("---\n{}", all[n % all.len()]))
                    .collect();
                let last = texts.last().map_or(0, |n| all[n % all.len()].len());
                text.truncate(text.len() - last * (8 - parts) / 8);
                // Not through a link that stands there.
                let _ = fs::remove_file(of(file));
                let folder = of(file).parent().unwrap().to_owned();
                // A new folder is reported as such.
                if !folder.is_dir() {
                    self.named.insert(folder);
                }
                self.c.write(FILES[*file], &text);
                self.named.insert(self.path(*file));
            }
            Edit::Remove(file) => {
                let _ = fs::remove_file(of(file));
                self.named.insert(of(file));
            }
            Edit::Link(file, to) => {
                let _ = fs::remove_file(of(file));
                let to = to.map_or("/etc/hostname".into(), |to| self.path(to));
                if of(file).parent().unwrap().is_dir() {
                    symlink(to, of(file)).unwrap();
                }
                self.named.insert(of(file));
            }
            Edit::Folder(which) => {
                let name = ["objects/deep", "status/Pod", "status/EndpointSlice"][*which];
                let there = self.c.dir.path().join(name);
                let away = self.c.dir.path().join(name.replace('/', "-"));
                match away.is_dir() && !there.is_dir() {
                    true => fs::rename(&away, &there).unwrap(),
                    false => {
                        let _ = fs::remove_dir_all(&away);
                        let _ = fs::rename(&there, &away);
                    }
                }
                self.named.insert(there);
            }
        }
    }

    fn look(&mut self, hears: Hears) {
        let named = std::mem::take(&mut self.named);
        let reader = &mut self.c.reader;
        let mut observed = match hears {
            Hears::Names => reader.look_at(&named),
            Hears::Nothing => reader.look(false),
        };
        // As the watch does when names do not tell enough.
        if reader.unclear {
            observed.extend(reader.look(false));
        }
        for observed in observed {
            match observed {
                Observed::Upsert(fact) => drop(self.told.insert(fact.key(), fact)),
                Observed::Delete(key) => assert!(self.told.remove(&key).is_some(), "{key:?}"),
                Observed::Relisting => self.told.clear(),
                Observed::Listed(_) => {}
                other => panic!("{other:?}"),
            }
        }
        self.judge.look();
        assert_eq!(self.told, self.judge.facts);
        assert_eq!(self.c.reader.problems(), self.judge.problems);
        let (ours, judges) = (&self.c.reader, &self.judge);
        for (ours, judges) in [
            (&ours.objects, &judges.objects),
            (&ours.status, &judges.status),
        ] {
            assert_eq!(ours.objects(), judges.judged().0);
            assert_eq!(ours.problems(), judges.judged().1);
            assert_eq!(
                (ours.complete(), ours.unsettled()),
                (judges.complete(), judges.unsettled())
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn names_alone_lead_where_everything_leads(
        steps in prop::collection::vec(
            (prop::collection::vec(edit(), 1..4), prop_oneof![5 => Just(Hears::Names), 1 => Just(Hears::Nothing)]),
            1..16,
        )
    ) {
        let mut desk = Desk::new();
        desk.look(Hears::Nothing);
        for (edits, hears) in &steps {
            for edit in edits {
                desk.edit(edit);
            }
            desk.look(*hears);
        }
    }
}
