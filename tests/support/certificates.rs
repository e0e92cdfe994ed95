//! Certificates of every kind, good and bad, made by the `openssl` command in a folder of the test.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::program;

/// The hosts that a certificate is for, unless it is for another.
const HERE: &str = "DNS:localhost,IP:127.0.0.1,IP:::1";
/// The name alone, so that the address is another host.
const NAME: &str = "DNS:localhost";
/// A host that no test connects to.
const ELSEWHERE: &str = "DNS:broker.example,IP:192.0.2.7";
/// `openssl ca` alone can set both dates, and it wants a file of settings and a book.
const SETTINGS: &str = "[ca]\ndefault_ca = own\n[own]\nnew_certs_dir = .\ndatabase = book\nrand_serial = yes\n\
    default_md = sha256\npolicy = any\nunique_subject = no\ncopy_extensions = copy\n[any]\ncommonName = supplied\n";

/// What is wrong with a certificate, or good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is wrong.
    Good,
    /// It ends so many days from now.
    Ending(u32),
    /// It was good in 2020.
    Expired,
    /// It will be good in 2090.
    NotYet,
    /// It is good for another host.
    OtherHost,
    /// It is good for the name of this machine, not for its address.
    NoAddress,
    /// Its key is RSA of 1024 bits.
    ShortKey,
    /// It is signed by means of SHA-1.
    Sha1,
}

/// A certificate and its key, both in PEM.
#[derive(Clone, Debug)]
pub struct Paper {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key, without a password.
    pub key: PathBuf,
}

/// An authority with its own folder, in which all its papers lie.
pub struct Authority {
    folder: TempDir,
    own: Paper,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = self_signed(folder.path(), name, "basicConstraints=critical,CA:TRUE");
        fs::write(folder.path().join("settings"), SETTINGS).unwrap();
        fs::write(folder.path().join("book"), "").unwrap();
        Self { folder, own }
    }

    /// Its certificate.
    pub fn file(&self) -> &Path {
        &self.own.cert
    }

    /// A certificate for `name` and the hosts of this machine.
    pub fn issue(&self, name: &str, kind: Kind) -> Paper {
        let folder = self.folder.path();
        let [request, cert] = ["csr", "pem"].map(|end| folder.join(format!("{name}.{end}")));
        let hosts = match kind {
            Kind::OtherHost => ELSEWHERE,
            Kind::NoAddress => NAME,
            _ => HERE,
        };
        let key = new_key(folder, name, kind == Kind::ShortKey);
        openssl(folder, |openssl| {
            openssl.args(["req", "-new", "-subj", &format!("/CN={name}"), "-addext"]);
            openssl.arg(format!("subjectAltName={hosts}")).arg("-key").arg(&key).arg("-out").arg(&request);
        });
        let (start, end) = match kind {
            Kind::Expired => ("20200101000000Z", "20210101000000Z"),
            Kind::NotYet => ("20900101000000Z", "20910101000000Z"),
            _ => ("20200101000000Z", "20900101000000Z"),
        };
        openssl(folder, |openssl| {
            openssl.args(["ca", "-batch", "-notext", "-config", "settings", "-startdate", start]);
            match kind {
                Kind::Ending(days) => openssl.args(["-days", &days.to_string()]),
                _ => openssl.args(["-enddate", end]),
            };
            openssl.args(["-md", if kind == Kind::Sha1 { "sha1" } else { "sha256" }]);
            openssl.arg("-cert").arg(&self.own.cert).arg("-keyfile").arg(&self.own.key);
            openssl.arg("-in").arg(&request).arg("-out").arg(&cert);
        });
        Paper { cert, key }
    }

    /// A certificate that no authority has signed.
    pub fn self_signed(&self, name: &str) -> Paper {
        self_signed(self.folder.path(), name, &format!("subjectAltName={HERE}"))
    }

    /// The key again, behind a password.
    pub fn lock_key(&self, paper: &Paper, password: &str) -> PathBuf {
        let locked = paper.key.with_extension("locked");
        openssl(self.folder.path(), |openssl| {
            openssl.args(["pkey", "-aes256", "-passout", &format!("pass:{password}"), "-in"]);
            openssl.arg(&paper.key).arg("-out").arg(&locked);
        });
        private(locked)
    }

    /// Certificate, key and authority in one PKCS#12 file behind a password.
    pub fn pkcs12(&self, paper: &Paper, password: &str) -> PathBuf {
        let packed = paper.key.with_extension("p12");
        openssl(self.folder.path(), |openssl| {
            openssl.args(["pkcs12", "-export", "-passout", &format!("pass:{password}"), "-in"]);
            openssl.arg(&paper.cert).arg("-inkey").arg(&paper.key).arg("-certfile").arg(&self.own.cert);
            openssl.arg("-out").arg(&packed);
        });
        private(packed)
    }

    /// Lines for mosquitto's configuration: one more listener, on this port, with this certificate. It believes the
    /// certificates of this authority, and takes any cipher and key, so that it is the client who refuses.
    pub fn listener(&self, port: u16, paper: &Paper) -> String {
        let mut lines = format!("listener {port} 127.0.0.1\nciphers DEFAULT@SECLEVEL=0\n");
        writeln!(lines, "cafile {}", self.own.cert.display()).unwrap();
        writeln!(lines, "certfile {}\nkeyfile {}", paper.cert.display(), paper.key.display()).unwrap();
        lines
    }
}

fn self_signed(folder: &Path, name: &str, extension: &str) -> Paper {
    let key = new_key(folder, name, false);
    let cert = folder.join(format!("{name}.pem"));
    openssl(folder, |openssl| {
        openssl.args(["req", "-x509", "-new", "-days", "3650", "-subj", &format!("/CN={name}"), "-addext"]);
        openssl.arg(extension).arg("-key").arg(&key).arg("-out").arg(&cert);
    });
    Paper { cert, key }
}

fn new_key(folder: &Path, name: &str, is_short: bool) -> PathBuf {
    let key = folder.join(format!("{name}.key"));
    openssl(folder, |openssl| {
        openssl.args(["genpkey", "-algorithm"]);
        if is_short {
            openssl.args(["RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
        } else {
            openssl.args(["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        }
        openssl.arg("-out").arg(&key);
    });
    private(key)
}

fn private(file: PathBuf) -> PathBuf {
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    file
}

fn openssl(folder: &Path, arguments: impl FnOnce(&mut Command)) {
    let mut command = Command::new(program("openssl"));
    arguments(command.current_dir(folder));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
