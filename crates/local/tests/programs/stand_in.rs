//! Stand-ins for the proxy and the control plane: as much of them as the node sees.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

fn flags(args: &[String]) -> BTreeMap<&str, &str> {
    args.chunks(2)
        .map(|pair| (pair[0].as_str(), pair.get(1).map_or("", String::as_str)))
        .collect()
}

/// Ready at once when its token and root can be read. With `--capture explicit` it carries port 5000 to the program; with
/// `redirect` it says which port a captured connection came to; a gateway answers at 15443.
pub(crate) fn proxy(args: &[String]) -> ExitCode {
    let flags = flags(&args[1..]);
    for file in ["--join-token", "--root-cert"] {
        if let Err(error) = std::fs::read_to_string(flags[file]) {
            eprintln!("{file}: {error}");
            return ExitCode::FAILURE;
        }
    }
    std::fs::write(format!("{}/state.json", flags["--state"]), "{}").unwrap();
    let address = flags["--address"];
    match (args[0].as_str(), flags["--capture"]) {
        ("gateway", _) => answer(format!("{address}:15443"), "gateway"),
        (_, "explicit") => {
            let app = flags["--app"].to_owned();
            let listener = TcpListener::bind(format!("{address}:5000")).unwrap();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let Ok(to) = TcpStream::connect(format!("{app}:5000")) else {
                        continue;
                    };
                    carry(stream.try_clone().unwrap(), to.try_clone().unwrap());
                    carry(to, stream);
                }
            });
        }
        _ => {
            answer("0.0.0.0:15001".into(), "outbound");
            answer("0.0.0.0:15006".into(), "inbound");
            let dns = UdpSocket::bind("0.0.0.0:15053").unwrap();
            thread::spawn(move || {
                let mut question = [0; 512];
                while let Ok((length, from)) = dns.recv_from(&mut question) {
                    let _ = dns.send_to(&question[..length], from);
                }
            });
        }
    }
    let admin = UnixListener::bind(flags["--admin-socket"]).unwrap();
    for mut stream in admin.incoming().flatten() {
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    }
    ExitCode::SUCCESS
}

pub(crate) fn control_plane(args: &[String]) -> ExitCode {
    let flags = flags(args);
    answer(flags["--listen"].to_owned(), flags["--mesh"]);
    loop {
        thread::park();
    }
}

fn answer(at: String, word: &str) {
    let listener = TcpListener::bind(&at).unwrap_or_else(|e| panic!("{at}: {e}"));
    let word = format!("{word}\n");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A question that is not read would make the end of the connection a reset.
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(word.as_bytes());
        }
    });
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}
