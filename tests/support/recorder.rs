//! A relay that writes down what a client sends, and when it came.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A connection of the client.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// When it came.
    pub at: Instant,
    /// What the client sent.
    pub bytes: Vec<u8>,
}

/// A running relay before a port of this machine.
pub struct Recorder {
    /// Where it listens, on loopback.
    pub port: u16,
    book: Arc<(Mutex<Vec<Recorded>>, Condvar)>,
}

impl Recorder {
    /// Starts it before this port.
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let own = listener.local_addr().unwrap().port();
        let book: Arc<(Mutex<Vec<Recorded>>, Condvar)> = Arc::default();
        let shared = Arc::clone(&book);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let index = {
                    let mut book = shared.0.lock().unwrap();
                    book.push(Recorded { at: Instant::now(), bytes: Vec::new() });
                    book.len() - 1
                };
                shared.1.notify_all();
                // Who is away cuts the client off.
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || carry(&from, &to, |_| ()));
                let shared = Arc::clone(&shared);
                let write = move |bytes: &[u8]| {
                    shared.0.lock().unwrap()[index].bytes.extend_from_slice(bytes);
                };
                thread::spawn(move || carry(&client, &server, write));
            }
        });
        Self { port: own, book }
    }

    /// The connections so far.
    pub fn connections(&self) -> Vec<Recorded> {
        self.book.0.lock().unwrap().clone()
    }

    /// Waits until there have been so many connections, and returns them.
    pub fn wait(&self, count: usize, limit: Duration) -> Vec<Recorded> {
        let end = Instant::now() + limit;
        let mut book = self.book.0.lock().unwrap();
        while book.len() < count {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} connections of {count} within {limit:?}", book.len());
            book = self.book.1.wait_timeout(book, left).unwrap().0;
        }
        book.clone()
    }
}

/// Each way by itself: what the broker says while it closes still reaches the client.
fn carry(mut from: &TcpStream, mut to: &TcpStream, write: impl Fn(&[u8])) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        write(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
    // It may be closed already.
    to.shutdown(Shutdown::Write).ok();
}
