//! Which program an image means here. There are no images on a machine: some are known by name, others bring a command.

use std::path::Path;

use crate::object::Container;

/// The images whose built-in server this is, before the version.
const HELLOWORLD: &str = "examples-helloworld-";

/// The command line of a container, or what it waits for.
pub(crate) fn argv(
    container: &Container,
    program: &Path,
    pod: &str,
) -> Result<Vec<String>, String> {
    let image = short_name(&container.image);
    let given: Vec<String> = (container.command.iter().chain(&container.args))
        .cloned()
        .collect();
    if !container.command.is_empty() {
        return match on_this_machine(&container.command[0]) {
            true => Ok(given),
            false => Err(format!(
                "{} of container {} is not on this machine; install it, or name another command",
                container.command[0], container.name
            )),
        };
    }
    if let Some(version) = image.strip_prefix(HELLOWORLD) {
        let program = program.display().to_string();
        let words = ["helloworld", "--version", version, "--instance", pod];
        return Ok(std::iter::once(program.as_str())
            .chain(words)
            .map(str::to_owned)
            .collect());
    }
    Err(format!(
        "image {:?} of container {} is not built in; give the container a command of this machine",
        container.image, container.name
    ))
}

/// `registry.example/istio/curl:8.1.2` is `curl`.
fn short_name(image: &str) -> &str {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split(['@', ':']).next().unwrap_or(last)
}

fn on_this_machine(command: &str) -> bool {
    if command.contains('/') {
        return Path::new(command).is_file();
    }
    let path = std::env::var("PATH").unwrap_or_else(|_| super::DEFAULT_PATH.into());
    path.split(':')
        .any(|folder| Path::new(folder).join(command).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(image: &str, command: &[&str]) -> Container {
        Container {
            name: "c".into(),
            image: image.into(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..Container::default()
        }
    }

    #[test]
    fn images_of_the_sample_are_programs() {
        let hello = container("docker.io/istio/examples-helloworld-v1:1.0", &[]);
        let argv = argv(&hello, Path::new("/bin/catamaran"), "pod-1").unwrap();
        assert_eq!(
            argv.join(" "),
            "/bin/catamaran helloworld --version v1 --instance pod-1"
        );
    }

    #[test]
    fn others_run_their_command_or_say_why_not() {
        let program = Path::new("/bin/catamaran");
        let sleep = container("curl:8.1.2", &["/bin/sleep", "infinity"]);
        assert_eq!(
            argv(&sleep, program, "p").unwrap(),
            ["/bin/sleep", "infinity"]
        );
        let gone = argv(&container("x", &["/no/such/program"]), program, "p").unwrap_err();
        assert!(
            gone.contains("/no/such/program of container c is not on this machine"),
            "{gone}"
        );
        let image = argv(&container("nginx:1", &[]), program, "p").unwrap_err();
        assert!(image.contains("image \"nginx:1\""), "{image}");
    }
}
