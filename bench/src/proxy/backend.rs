//! The program that is called: HTTP/1.1, one thread, and as little work as can be.
//!
//! `/bytes/N` is answered with N bytes. `/gather/N` is answered when N such requests wait, so that a caller can have N connections in
//! use at once.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::machine::pin;

/// A backend that runs as long as its process does.
#[derive(Debug, Clone, Copy)]
pub struct Backend {
    address: SocketAddr,
}

impl Backend {
    /// Starts it in a thread of its own on one core, on a free port of loopback.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(core: usize) -> io::Result<Backend> {
        let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let serve = move || {
            pin(core);
            Serving {
                poll,
                listener,
                open: HashMap::new(),
                next: 1,
                answers: HashMap::new(),
                gathered: Vec::new(),
            }
            .run()
        };
        std::thread::Builder::new()
            .name("backend".into())
            .spawn(serve)?;
        Ok(Backend { address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

const LISTENER: Token = Token(0);

struct Serving {
    poll: Poll,
    listener: TcpListener,
    open: HashMap<usize, Connection>,
    next: usize,
    answers: HashMap<usize, Rc<[u8]>>,
    gathered: Vec<usize>,
}

struct Connection {
    socket: TcpStream,
    /// The start of a request whose end is not here yet.
    head: Vec<u8>,
    /// Answers not yet written, and how much of the first is.
    answers: VecDeque<Rc<[u8]>>,
    written: usize,
}

impl Serving {
    fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut scratch = vec![0; 1 << 16];
        loop {
            if let Err(error) = self.poll.poll(&mut events, None)
                && error.kind() != io::ErrorKind::Interrupted
            {
                eprintln!("the benchmark's backend ends: {error}");
                return;
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    Token(at) => {
                        if self.serve(at, &mut scratch).is_err() {
                            self.open.remove(&at);
                            self.gathered.retain(|waiting| *waiting != at);
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((mut socket, _)) = self.listener.accept() {
            let token = Token(self.next);
            let interest = Interest::READABLE | Interest::WRITABLE;
            let _ = socket.set_nodelay(true);
            if self
                .poll
                .registry()
                .register(&mut socket, token, interest)
                .is_ok()
            {
                let connection = Connection {
                    socket,
                    head: Vec::new(),
                    answers: VecDeque::new(),
                    written: 0,
                };
                self.open.insert(self.next, connection);
                self.next += 1;
            }
        }
    }

    fn serve(&mut self, at: usize, scratch: &mut [u8]) -> io::Result<()> {
        let Some(connection) = self.open.get_mut(&at) else {
            return Ok(());
        };
        let mut asked = Vec::new();
        loop {
            match connection.socket.read(scratch) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    connection.head.extend_from_slice(&scratch[..read]);
                    asked.extend(std::iter::from_fn(|| connection.request()));
                    if read < scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        for path in asked {
            match path? {
                Path::Bytes(size) => {
                    let answer = self
                        .answers
                        .entry(size)
                        .or_insert_with(|| answer(size))
                        .clone();
                    connection.answers.push_back(answer);
                }
                Path::Gather(count) => {
                    self.gathered.push(at);
                    if self.gathered.len() >= count {
                        return self.release();
                    }
                }
            }
        }
        connection.flush()
    }

    /// Answers everybody who waits.
    fn release(&mut self) -> io::Result<()> {
        let answer = answer(1024);
        for at in std::mem::take(&mut self.gathered) {
            if let Some(connection) = self.open.get_mut(&at) {
                connection.answers.push_back(answer.clone());
                if connection.flush().is_err() {
                    self.open.remove(&at);
                }
            }
        }
        Ok(())
    }
}

enum Path {
    Bytes(usize),
    Gather(usize),
}

impl Connection {
    /// Takes the next whole request.
    fn request(&mut self) -> Option<io::Result<Path>> {
        let end = self.head.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head: Vec<u8> = self.head.drain(..end + 4).collect();
        let path = head
            .split(|byte| *byte == b' ')
            .nth(1)
            .and_then(|path| str::from_utf8(path).ok());
        let path = path.and_then(|path| {
            let (what, number) = path.strip_prefix('/')?.split_once('/')?;
            let number = number.parse().ok()?;
            match what {
                "bytes" => Some(Path::Bytes(number)),
                "gather" => Some(Path::Gather(number)),
                _ => None,
            }
        });
        Some(path.ok_or_else(|| io::ErrorKind::InvalidData.into()))
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some(answer) = self.answers.front() {
            match self.socket.write(&answer[self.written..]) {
                Ok(wrote) => self.written += wrote,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.written == answer.len() {
                self.written = 0;
                self.answers.pop_front();
            }
        }
        Ok(())
    }
}

fn answer(size: usize) -> Rc<[u8]> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nserver: bench\r\ncontent-type: text/plain\r\ncontent-length: {size}\r\n\r\n"
    );
    let mut answer = head.into_bytes();
    answer.extend((0..size).map(|at| b'a' + (at % 26) as u8));
    answer.into()
}
