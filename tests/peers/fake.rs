//! A Modbus TCP server of a script, byte by byte.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What the fake does with a connection's request: the answer to send, and whether to close after it.
type Script = dyn Fn(u32, &[u8]) -> (Vec<u8>, bool) + Send + Sync;

/// A server on a free port that counts requests and connections and answers by a script.
pub(crate) struct Fake {
    pub(crate) port: u16,
    requests: Arc<AtomicU32>,
    connections: Arc<AtomicU32>,
    pub(crate) closed: Arc<AtomicU32>,
}

impl Fake {
    pub(crate) fn start(script: impl Fn(u32, &[u8]) -> (Vec<u8>, bool) + Send + Sync + 'static) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script)
    }

    /// The same at an address of the caller's.
    pub(crate) fn start_at(
        address: SocketAddr,
        script: impl Fn(u32, &[u8]) -> (Vec<u8>, bool) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let script: Arc<Script> = Arc::new(script);
        let requests = Arc::new(AtomicU32::new(0));
        let connections = Arc::new(AtomicU32::new(0));
        let closed = Arc::new(AtomicU32::new(0));
        let counts = (Arc::clone(&requests), Arc::clone(&connections), Arc::clone(&closed));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counts.1.fetch_add(1, Ordering::SeqCst);
                let (script, requests, closed) =
                    (Arc::clone(&script), Arc::clone(&counts.0), Arc::clone(&counts.2));
                std::thread::spawn(move || {
                    serve(stream, &*script, &requests);
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, requests, connections, closed }
    }

    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, script: &Script, requests: &AtomicU32) {
    loop {
        let mut request = vec![0; 6];
        if stream.read_exact(&mut request).is_err() {
            return;
        }
        let length = usize::from(u16::from_be_bytes([request[4], request[5]]));
        request.resize(6 + length, 0);
        if stream.read_exact(&mut request[6..]).is_err() {
            return;
        }
        let number = requests.fetch_add(1, Ordering::SeqCst);
        let (answer, close) = script(number, &request);
        if stream.write_all(&answer).is_err() || close {
            return;
        }
    }
}

/// The right answer to a read of holding registers, whose values are their addresses.
pub(crate) fn right(request: &[u8]) -> Vec<u8> {
    let start = u16::from_be_bytes([request[8], request[9]]);
    let count = u16::from_be_bytes([request[10], request[11]]);
    let data: Vec<u8> = (start..start + count).flat_map(u16::to_be_bytes).collect();
    answer(request, &data)
}

/// An answer with these data bytes.
pub(crate) fn answer(request: &[u8], data: &[u8]) -> Vec<u8> {
    let length = u8::try_from(data.len()).unwrap();
    let mut answer = request[..4].to_vec();
    answer.extend_from_slice(&(u16::from(length) + 3).to_be_bytes());
    answer.extend_from_slice(&[request[6], request[7], length]);
    answer.extend_from_slice(data);
    answer
}

/// An exception in answer to a request.
pub(crate) fn refusal(request: &[u8], code: u8) -> Vec<u8> {
    [&request[..4], &[0, 3, request[6], request[7] | 0x80, code]].concat()
}
