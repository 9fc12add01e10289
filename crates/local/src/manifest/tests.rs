use super::*;
use std::os::unix::fs::symlink;

const ACCOUNT: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sleep}\n";
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{name: http, port: 80}]}\n";

impl Folder {
    /// What [`Folder::objects`] and [`Folder::problems`] say, from every file again.
    pub(crate) fn judged(&self) -> (BTreeMap<ObjectKey, Arc<Object>>, Vec<Problem>) {
        let mut all: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
        let mut first: BTreeMap<&ObjectKey, &Name> = BTreeMap::new();
        let mut problems = self.folder_problems.clone();
        for (name, file) in &self.files {
            problems.extend(file.problems.iter().cloned());
            for (key, (object, line)) in &file.objects {
                let winner = *first.entry(key).or_insert(name);
                if winner != name {
                    let reason = format!(
                        "it is in {} too, which counts",
                        self.shown(winner).display()
                    );
                    problems.push(self.problem_of(name, *line, key, reason));
                }
                all.entry(key.clone()).or_insert_with(|| object.clone());
            }
        }
        problems.sort();
        problems.truncate(MAX_PROBLEMS);
        (all, problems)
    }
}

struct Tree {
    tmp: tempfile::TempDir,
    folder: Folder,
}

impl Tree {
    fn new() -> Tree {
        let tmp = tempfile::tempdir().unwrap();
        let objects = tmp.path().join("objects");
        fs::create_dir(&objects).unwrap();
        let folder = Folder::new(&objects, Holds::Manifests);
        Tree { tmp, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join("objects").join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn scan(&mut self) -> (Vec<String>, Vec<String>) {
        self.folder.scan().unwrap();
        let objects = self
            .folder
            .objects()
            .keys()
            .map(ToString::to_string)
            .collect();
        let problems = self
            .folder
            .problems()
            .iter()
            .map(ToString::to_string)
            .collect();
        (objects, problems)
    }
}

#[test]
fn the_manifests_of_the_five_steps_are_understood() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/five-steps");
    let mut folder = Folder::new(Path::new(folder), Holds::Manifests);
    folder.scan().unwrap();
    let objects: Vec<String> = folder.objects().keys().map(ToString::to_string).collect();
    assert_eq!(
        objects,
        [
            "ServiceAccount default/helloworld",
            "ServiceAccount default/sleep",
            "Service default/helloworld",
            "Service default/sleep",
            "Deployment default/helloworld-v1",
            "Deployment default/helloworld-v2",
            "Deployment default/sleep",
        ]
    );
    let Some(Object::Deployment(sleep)) = folder
        .objects()
        .values()
        .find(|o| o.kind() == Kind::Deployment && o.metadata().name == "sleep")
        .map(|o| o.as_ref().clone())
    else {
        panic!("no Deployment sleep")
    };
    let secret = sleep.spec.template.spec.volumes[0].secret.clone().unwrap();
    assert_eq!(
        (secret.secret_name.as_str(), secret.optional),
        ("sleep-secret", Some(true))
    );
}

#[test]
fn bad_objects_are_reported_with_file_line_and_reason_and_hurt_only_themselves() {
    let table = [
        (
            "kind: Service\nmetadata: {name: x}\n",
            "a.yaml:5: apiVersion and kind",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {}\n",
            "a.yaml:5: metadata.name is missing",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: No_Name}\nspec: {ports: [{port: 1}]}\n",
            "only lower-case letters",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec:\n  ports:\n  - port: many\n",
            "a.yaml:10: Service default/x",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: []}\n",
            "spec.ports is empty",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 1}, {port: 2}]}\n",
            "needs a name",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 70000}]}\n",
            "Service default/x",
        ),
        (
            "apiVersion: v1\nkind: Gadget\nmetadata: {name: x}\n",
            "v1 Gadget x is not looked at",
        ),
        ("apiVersion: v1\nkind: Service\n  metadata: {\n", "a.yaml:"),
        (
            "apiVersion: catamaran.dev/v1alpha1\nkind: Mesh\nmetadata: {name: m, namespace: default}\n",
            "belongs into the namespace catamaran-system",
        ),
        (
            "apiVersion: catamaran.dev/v1alpha1\nkind: Cluster\nmetadata: {name: c}\nspec: {mode: DiscoveryOnly, gateway: true}\n",
            "managed clusters only",
        ),
        (
            "apiVersion: catamaran.dev/v1alpha1\nkind: Cluster\nmetadata: {name: c}\nspec: {mode: Managed, gatewayAddresses: ['gw:15443']}\n",
            "\"gw:15443\" is not IP:PORT",
        ),
        (
            "apiVersion: catamaran.dev/v1alpha1\nkind: Cluster\nmetadata: {name: c}\nspec: {mode: Managed, gatewayAddresses: ['169.254.169.254:1']}\n",
            "link-local",
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  selector: {matchLabels: {app: x}}\n  template: {metadata: {labels: {app: y}}, spec: {containers: [{name: c}]}}\n",
            "the template does not have",
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  replicas: 100000\n  selector: {matchLabels: {app: x}}\n  template: {metadata: {labels: {app: x}}, spec: {containers: [{name: c}]}}\n",
            "more than 100",
        ),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {'../key': x}\n",
            "may not be a key",
        ),
    ];
    for (bad, expected) in table {
        let mut tree = Tree::new();
        tree.write("a.yaml", format!("{ACCOUNT}---\n{bad}---\n{SERVICE}"));
        let (objects, problems) = tree.scan();
        assert_eq!(
            objects,
            ["ServiceAccount default/sleep", "Service default/web"],
            "{bad}"
        );
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].contains(expected),
            "{} does not say {expected}",
            problems[0]
        );
        assert!(
            problems[0].starts_with("objects/a.yaml:"),
            "{}",
            problems[0]
        );
    }
}

#[test]
fn a_file_that_cannot_be_understood_keeps_its_objects_until_it_can() {
    let both = format!("{ACCOUNT}---\n{SERVICE}");
    let states: [(&str, Vec<u8>); 5] = [
        ("half-written", both.as_bytes()[..both.len() - 20].to_vec()),
        ("cut in the head", b"apiVer".to_vec()),
        ("emptied", Vec::new()),
        ("not UTF-8", [both.as_bytes(), &[0xff, 0xfe]].concat()),
        ("huge", vec![b'#'; MAX_MANIFEST_BYTES as usize + 1]),
    ];
    for (what, bytes) in states {
        let mut tree = Tree::new();
        tree.write("a.yaml", &both);
        tree.write(
            "b.yaml",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n",
        );
        let (before, none) = tree.scan();
        assert_eq!((before.len(), none.len()), (3, 0), "{what}");

        tree.write("a.yaml", &bytes);
        let (kept, problems) = tree.scan();
        assert_eq!(kept, before, "{what}");
        assert_eq!(problems.len(), 1, "{what}: {problems:?}");

        tree.write("a.yaml", ACCOUNT);
        let (after, problems) = tree.scan();
        assert!(!after.contains(&"Service default/web".to_owned()), "{what}");
        assert!(problems.is_empty(), "{what}: {problems:?}");
    }
}

#[test]
fn an_object_goes_with_its_file_or_with_its_document() {
    let mut tree = Tree::new();
    tree.write("deep/er/a.yaml", format!("{ACCOUNT}---\n{SERVICE}"));
    assert_eq!(tree.scan().0.len(), 2);
    tree.write("deep/er/a.yaml", SERVICE);
    assert_eq!(tree.scan().0, ["Service default/web"]);
    fs::remove_file(tree.path("deep/er/a.yaml")).unwrap();
    assert_eq!(tree.scan().0, [""; 0]);
}

#[test]
fn an_invalid_edit_keeps_the_last_good_form() {
    let mut tree = Tree::new();
    tree.write("a.yaml", SERVICE);
    tree.scan();
    tree.write("a.yaml", SERVICE.replace("80", "eighty"));
    let (objects, problems) = tree.scan();
    assert_eq!(objects, ["Service default/web"]);
    assert!(
        problems[0].contains("its last good form is kept"),
        "{problems:?}"
    );
}

#[test]
fn two_files_with_one_object_have_one_winner() {
    let mut tree = Tree::new();
    tree.write("b.yaml", SERVICE.replace("80", "81"));
    tree.write("a.yaml", SERVICE);
    let (objects, problems) = tree.scan();
    assert_eq!(objects.len(), 1);
    assert_eq!(
        problems,
        ["objects/b.yaml:1: Service default/web: it is in objects/a.yaml too, which counts"]
    );
    let web = tree.folder.objects().into_values().next().unwrap();
    assert!(matches!(&*web, Object::Service(s) if s.spec.ports[0].port == 80));
}

#[test]
fn links_out_of_the_folder_are_not_followed() {
    let mut tree = Tree::new();
    let outside = tree.tmp.path().join("outside.yaml");
    fs::write(&outside, SERVICE).unwrap();
    symlink(&outside, tree.path("a.yaml")).unwrap();
    tree.write("real.yaml", ACCOUNT);
    symlink("real.yaml", tree.path("z.yaml")).unwrap();
    symlink(tree.tmp.path(), tree.path("folder")).unwrap();
    let (objects, problems) = tree.scan();
    assert_eq!(objects, ["ServiceAccount default/sleep"]);
    assert!(
        problems
            .iter()
            .any(|p| p.contains("leads out of the folder")),
        "{problems:?}"
    );
    assert!(
        problems.iter().any(|p| p.contains("links to folders")),
        "{problems:?}"
    );
}

#[test]
fn a_file_that_is_just_being_written_is_not_believed_yet() {
    let tree = Tree::new();
    let mut settled = Folder::new(&tree.path(""), Holds::Manifests).settled();
    let age = |name: &str| {
        let file = File::options().write(true).open(tree.path(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(1))
            .unwrap();
    };
    tree.write("a.yaml", SERVICE);
    age("a.yaml");
    settled.scan().unwrap();
    assert!(settled.complete() && !settled.unsettled());
    let cut = SERVICE.split("spec").next().unwrap().replace("web", "we");
    tree.write("a.yaml", &cut);
    settled.scan().unwrap();
    assert!(settled.unsettled() && !settled.complete());
    let key = settled.objects().into_keys().next().unwrap();
    assert_eq!(key.to_string(), "Service default/web");
    tree.write("a.yaml", SERVICE.replace("web", "new"));
    age("a.yaml");
    settled.scan().unwrap();
    assert_eq!(settled.objects().into_keys().next().unwrap().name, "new");
}

#[test]
fn a_named_pipe_holds_nobody() {
    let mut tree = Tree::new();
    nix::unistd::mkfifo(&tree.path("a.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (_, problems) = tree.scan();
    assert_eq!(problems, ["objects/a.yaml: it is not a file"]);
}

#[test]
fn a_folder_that_is_not_there_forgets_nothing() {
    let mut tree = Tree::new();
    tree.write("a.yaml", SERVICE);
    tree.scan();
    fs::rename(tree.path(""), tree.tmp.path().join("away")).unwrap();
    let error = tree.folder.scan().unwrap_err().to_string();
    assert!(
        error.contains("nothing in it is taken to be gone"),
        "{error}"
    );
    assert_eq!(tree.folder.objects().len(), 1);
}

#[test]
fn yaml_has_the_last_word_on_json() {
    let good = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}"#;
    let twice = good.replace(
        r#""name": "web""#,
        r#""name": "web", "labels": {"a": "1", "a": "2"}"#,
    );
    let cut = &good[..good.len() - 9];
    let kind = |text: &str| documents(text, Holds::Manifests).unwrap().remove(0).content;
    assert!(matches!(kind(good), Content::Object(key, _) if key.name == "web"));
    assert!(
        matches!(kind(&twice), Content::Unreadable(..)),
        "JSON's reader takes the last"
    );
    assert!(matches!(kind(cut), Content::Unreadable(..)));
}

#[test]
fn names_sort_as_paths_do() {
    let paths = [
        "a",
        "a/b.yaml",
        "a/c/d.yaml",
        "a-b.yaml",
        "a.yaml",
        "ab/a.yaml",
        "b/a.yaml",
    ];
    let root = Path::new("/r");
    let mut by_path: Vec<PathBuf> = paths.iter().map(|path| root.join(path)).collect();
    by_path.sort();
    let mut by_name: Vec<Name> = (paths.iter().rev())
        .map(|path| Name::below(root, &root.join(path)).unwrap())
        .collect();
    by_name.sort();
    let by_name: Vec<PathBuf> = by_name.iter().map(|name| name.path(root)).collect();
    assert_eq!(by_name, by_path);
    for other in ["/r", "/other/a.yaml", "/r/../a.yaml"] {
        assert_eq!(Name::below(root, Path::new(other)), None, "{other}");
    }
}

#[test]
fn a_named_file_is_looked_at_alone() {
    let mut tree = Tree::new();
    for n in 0..30 {
        tree.write(
            &format!("{n}.yaml"),
            SERVICE.replace("web", &format!("web-{n}")),
        );
    }
    tree.folder.scan().unwrap();
    let before = tree.folder.looked();
    tree.write("7.yaml", SERVICE.replace("web", "seven"));
    let touched = tree.folder.look([tree.path("7.yaml").as_path()]).unwrap();
    let keys: Vec<String> = touched.keys.iter().map(ToString::to_string).collect();
    assert_eq!(keys, ["Service default/seven", "Service default/web-7"]);
    assert!(!touched.unclear);
    let after = tree.folder.looked();
    assert_eq!(
        (after.named - before.named, after.scanned),
        (1, before.scanned)
    );
}

#[test]
fn what_is_more_than_a_file_takes_a_look_at_everything() {
    let mut tree = Tree::new();
    tree.write("sub/a.yaml", SERVICE);
    tree.write("b.yaml", ACCOUNT);
    tree.folder.scan().unwrap();
    let mut unclear = |name: &str| {
        let path = tree.tmp.path().join("objects").join(name);
        tree.folder.look([path.as_path()]).unwrap().unclear
    };
    assert!(unclear("sub"), "a folder may have come with files in it");
    assert!(unclear("gone"), "it may have been a folder");
    assert!(!unclear("b.yaml") && !unclear("sub/a.yaml"));
    assert!(!unclear(".hidden/a.yaml") && !unclear(".b.yaml"));
    fs::remove_file(tree.tmp.path().join("objects/sub/a.yaml")).unwrap();
    assert!(!unclear("sub/a.yaml"));
    assert_eq!(tree.folder.objects().len(), 1);
}

#[test]
fn two_thousand_files_are_read_once() {
    let mut tree = Tree::new();
    for n in 0..2000 {
        tree.write(
            &format!("{n}.yaml"),
            SERVICE.replace("web", &format!("web-{n}")),
        );
    }
    assert_eq!(tree.scan().0.len(), 2000);
    let old = SystemTime::now() - Duration::from_secs(60);
    for n in 0..2000 {
        let file = File::options()
            .write(true)
            .open(tree.path(&format!("{n}.yaml")))
            .unwrap();
        file.set_modified(old).unwrap();
    }
    tree.folder.scan().unwrap();
    assert!(!tree.folder.unsettled());
    let started = std::time::Instant::now();
    assert!(tree.folder.scan().unwrap().is_empty());
    let took = started.elapsed();
    assert!(
        took < Duration::from_millis(500),
        "an unchanged folder took {took:?}"
    );
}
