//! `fieldgate status`: what the running gateway says of itself, asked over `web.listen`.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use super::Exit;
use crate::config::{self, Secret, WebConfig};

mod tell;

/// The gateway answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than a thousand devices take.
const LARGEST: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
enum StatusError {
    #[error(
        "web.listen is \"off\", so the gateway cannot be asked; its `status` command by MQTT tells the most of it"
    )]
    Off,
    #[error("web.listen has port 0, so only the gateway's log says where it listens")]
    AnyPort,
    #[error("{0}")]
    Token(String),
    #[error("no gateway answers at {0}: {1}; does it run, with this configuration?")]
    Unreachable(String, io::Error),
    #[error("{0} answered {1}; is it the gateway that listens there?")]
    Foreign(String, String),
}

/// Asks, and prints links, devices, buffer and uplink for a person; with `json`, all as it came.
#[must_use]
pub fn status(files: &[PathBuf], json: bool) -> Exit {
    let config = match config::load_web(files) {
        Ok(config) => config,
        Err(error) => {
            super::check::complain(&error);
            return Exit::Config;
        }
    };
    let told = match ask(&config) {
        Ok(status) if json => writeln!(io::stdout().lock(), "{status:#}"),
        Ok(status) => tell::tell(&mut io::stdout().lock(), &status),
        Err(error) => {
            super::complain(&error);
            return Exit::Failed;
        }
    };
    match told {
        Ok(()) => Exit::Done,
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(_) => Exit::Failed,
    }
}

fn ask(config: &WebConfig) -> Result<Json, StatusError> {
    let (host, port) = config.listen.as_ref().ok_or(StatusError::Off)?;
    if *port == 0 {
        return Err(StatusError::AnyPort);
    }
    // Who listens everywhere is reached here, too.
    let host = match host.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        other => other,
    };
    let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let token = config.token.as_ref().map(config::Source::read).transpose().map_err(StatusError::Token)?;
    let answer = exchange(host, *port, &place, token.as_ref())
        .map_err(|error| StatusError::Unreachable(place.clone(), error))?;
    let foreign = |what: &str| StatusError::Foreign(place.clone(), what.to_owned());
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| foreign("nothing in HTTP"))?;
    let mut first = head.lines().next().unwrap_or_default().splitn(2, ' ').skip(1);
    match first.next() {
        Some(code) if code.starts_with("200") => {
            serde_json::from_str(body).map_err(|_| foreign("something that is no JSON"))
        }
        // Why, in words.
        Some(code) => Err(foreign(&format!("{code}: {}", tell::plain(body.trim())))),
        None => Err(foreign("nothing in HTTP")),
    }
}

/// One request by HTTP 1.0, whose answer ends with the connection.
fn exchange(host: &str, port: u16, place: &str, token: Option<&Secret>) -> io::Result<String> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        let mut stream = match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => stream,
            Err(error) => {
                failed = error;
                continue;
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // In one piece, and wiped when it is sent.
        let begin = format!("GET /api/status HTTP/1.0\r\nHost: {place}\r\n");
        let parts = match token {
            Some(token) => [begin.as_bytes(), b"Authorization: Bearer ", token.expose(), b"\r\n\r\n"],
            None => [begin.as_bytes(), b"", b"", b"\r\n"],
        };
        let request = Secret::from_bytes(parts.concat());
        stream.write_all(request.expose())?;
        let mut answer = String::new();
        stream.take(LARGEST).read_to_string(&mut answer)?;
        return Ok(answer);
    }
    Err(failed)
}
