//! TLS to the broker. Everything is read again at each connect, so that a renewed certificate counts at once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslRef, SslVerifyMode, SslVersion};
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509VerifyResult};
use tokio_openssl::SslStream;

use super::client::ClientError;
use super::dial::Boxed;
use crate::config::{Identity, Secret, TlsConfig, Verify};
use crate::counters::UplinkCounters;

/// Keys of less than 112 bits of strength, MD5 and SHA-1 signatures are refused (OpenSSL's security level 2).
const SECURITY_LEVEL: u32 = 2;

/// What TLS told.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Such as `TLSv1.3 TLS_AES_256_GCM_SHA384`.
    pub(super) protocol: String,
    /// When our own certificate ends.
    pub(super) own: Option<Validity>,
}

/// How long a certificate is good.
#[derive(Clone, Debug)]
pub(super) struct Validity {
    /// Days from now; negative when it is over.
    pub(super) days: i64,
    /// As OpenSSL writes it.
    pub(super) text: String,
    /// The same in Unix seconds.
    pub(super) unix: i64,
}

impl Validity {
    fn of(time: &Asn1TimeRef) -> Self {
        let left = Asn1Time::days_from_now(0).and_then(|now| now.diff(time));
        let unix = Asn1Time::from_unix(0).and_then(|zero| zero.diff(time));
        let unix = unix.map_or(0, |since| i64::from(since.days) * 86_400 + i64::from(since.secs));
        Self { days: left.map_or(0, |left| i64::from(left.days)), text: time.to_string(), unix }
    }
}

/// Encrypts a stream to this host.
pub(super) async fn encrypt(
    stream: Boxed,
    config: &TlsConfig,
    host: &str,
    counters: &UplinkCounters,
) -> Result<(Boxed, Peer), ClientError> {
    if config.verify != Verify::Full {
        let what = if config.verify == Verify::None { "the certificate" } else { "the host name" };
        tracing::warn!(host, "mqtt.tls.verify: {what} of the broker is not checked; anybody may pose as it");
    }
    let local = |error: ErrorStack| ClientError::Refused(format!("TLS: {}", first(&error)));
    let (builder, own) = prepare(config)?;
    // Told also when the broker does not take it: it may have ended.
    counters.certificate_end.set(own.as_ref().map(|own| own.unix));
    let mut configuration = builder.build().configure().map_err(local)?;
    configuration.set_verify_hostname(config.verify == Verify::Full);
    let ssl = configuration.into_ssl(host).map_err(local)?;
    let mut stream = SslStream::new(ssl, stream).map_err(local)?;
    if let Err(error) = Pin::new(&mut stream).connect().await {
        // The result is there as well when nobody asked for it.
        let is_asked = config.verify != Verify::None;
        let verified = if is_asked { stream.ssl().verify_result() } else { X509VerifyResult::OK };
        return Err(refusal(host, config, verified, &error));
    }
    let peer = Peer { protocol: protocol(stream.ssl()), own };
    Ok((Box::new(stream), peer))
}

/// How long our own certificate is good, as it lies on the disk now.
pub(super) fn own_validity(config: &TlsConfig) -> Result<Option<Validity>, ClientError> {
    prepare(config).map(|(_, own)| own)
}

fn protocol(ssl: &SslRef) -> String {
    let cipher = ssl.current_cipher().map_or("", openssl::ssl::SslCipherRef::name);
    format!("{} {cipher}", ssl.version_str())
}

/// Why the handshake failed, in the words of the person who has to mend it.
fn refusal(
    host: &str,
    config: &TlsConfig,
    verified: X509VerifyResult,
    error: &openssl::ssl::Error,
) -> ClientError {
    let what = match verified.as_raw() {
        // The numbers of X509_V_ERR_* (x509_vfy.h).
        9 => "the broker's certificate is not yet valid; see the clock of this machine",
        10 => "the broker's certificate has expired",
        18 => "the broker's certificate is self-signed; give it or its authority as mqtt.tls.ca",
        19..=21 => "the broker's certificate is of an authority that is not believed; see mqtt.tls.ca",
        62 | 64 => "the broker's certificate is for another host; see the name in mqtt.url",
        66..=68 => "the broker's certificate is too weak",
        0 => {
            let Some(stack) = error.ssl_error() else {
                // No answer of TLS: the connection itself.
                return ClientError::Unreachable(format!("{host}: TLS: {error}"));
            };
            let reason = first(stack);
            return ClientError::Refused(format!("{host}: TLS: {}{reason}", advice(&reason, config)));
        }
        _ => return ClientError::Refused(format!("{host}: TLS: {}", verified.error_string())),
    };
    ClientError::Refused(format!("{host}: TLS: {what} ({})", verified.error_string()))
}

/// What a reason of OpenSSL's means to a person; nothing where it says it all.
fn advice(reason: &str, config: &TlsConfig) -> String {
    let words = |part| reason.contains(part);
    if words("protocol version") || words("unsupported protocol") {
        let least = if config.only_1_3 { "TLS 1.3" } else { "TLS 1.2" };
        format!("the broker speaks nothing from {least} on: ")
    } else if words("wrong version number") {
        "the broker does not answer in TLS; see the scheme and the port in mqtt.url: ".to_owned()
    } else if words("handshake failure") || words("no shared cipher") {
        "the broker takes none of our ciphers, or wants a certificate; see mqtt.tls.ciphers and mqtt.tls.cert: "
            .to_owned()
    } else if words("certificate") || words("unknown ca") {
        "the broker does not take our certificate; see mqtt.tls.cert: ".to_owned()
    } else {
        String::new()
    }
}

fn first(stack: &ErrorStack) -> String {
    let error = stack.errors().first();
    error.and_then(openssl::error::Error::reason).unwrap_or("failed").to_owned()
}

fn prepare(config: &TlsConfig) -> Result<(SslConnectorBuilder, Option<Validity>), ClientError> {
    let local = |error: ErrorStack| ClientError::Refused(format!("TLS: {}", first(&error)));
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(local)?;
    let least = if config.only_1_3 { SslVersion::TLS1_3 } else { SslVersion::TLS1_2 };
    builder.set_min_proto_version(Some(least)).map_err(local)?;
    if let Some(ciphers) = &config.ciphers {
        let set = if ciphers.starts_with("TLS_") {
            builder.set_ciphersuites(ciphers)
        } else {
            builder.set_cipher_list(ciphers)
        };
        set.map_err(|error| ClientError::Refused(format!("mqtt.tls.ciphers: {}", first(&error))))?;
    }
    builder.set_security_level(SECURITY_LEVEL);
    if let Some(ca) = &config.ca {
        let mut store = X509StoreBuilder::new().map_err(local)?;
        for certificate in authorities(ca).map_err(ClientError::Refused)? {
            store.add_cert(certificate).map_err(local)?;
        }
        // A new store: the system's authorities are not believed beside these.
        builder.set_cert_store(store.build());
    }
    if config.verify == Verify::None {
        builder.set_verify(SslVerifyMode::NONE);
    }
    if !config.alpn.is_empty() {
        let mut protocols = Vec::new();
        for protocol in &config.alpn {
            protocols.push(u8::try_from(protocol.len()).unwrap_or(u8::MAX));
            protocols.extend_from_slice(protocol.as_bytes());
        }
        builder.set_alpn_protos(&protocols).map_err(local)?;
    }
    let mut end = None;
    if let Some(identity) = &config.identity {
        let (chain, key) = own(identity).map_err(ClientError::Refused)?;
        let mut chain = chain.into_iter();
        if let Some(certificate) = chain.next() {
            end = Some(Validity::of(certificate.not_after()));
            let fits = certificate.public_key().is_ok_and(|public| public.public_eq(&key));
            if !fits {
                let what = "mqtt.tls: the key does not belong to the certificate";
                return Err(ClientError::Refused(what.to_owned()));
            }
            builder.set_certificate(&certificate).map_err(local)?;
        }
        for certificate in chain {
            builder.add_extra_chain_cert(certificate).map_err(local)?;
        }
        builder.set_private_key(&key).map_err(local)?;
    }
    Ok((builder, end))
}

/// Every certificate of a file, or of the files of a folder.
fn authorities(path: &Path) -> Result<Vec<X509>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("mqtt.tls.ca {}: {error}", path.display());
    let mut found = Vec::new();
    let files = if path.is_dir() {
        let entries = fs::read_dir(path).map_err(|error| wrong(&error))?;
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_file()).collect()
    } else {
        vec![path.to_owned()]
    };
    for file in files {
        let bytes = fs::read(&file).map_err(|error| wrong(&error))?;
        match X509::stack_from_pem(&bytes) {
            Ok(certificates) => found.extend(certificates),
            Err(error) if !path.is_dir() => return Err(wrong(&first(&error))),
            // A folder may hold other things too.
            Err(_) => {}
        }
    }
    if found.is_empty() { Err(wrong(&"holds no certificate in PEM")) } else { Ok(found) }
}

/// Our own chain, our certificate first, and its key.
fn own(identity: &Identity) -> Result<(Vec<X509>, PKey<Private>), String> {
    match identity {
        Identity::Pem { cert, key, password } => {
            let shown = cert.display();
            let bytes = fs::read(cert).map_err(|error| format!("mqtt.tls.cert {shown}: {error}"))?;
            let chain =
                X509::stack_from_pem(&bytes).map_err(|e| format!("mqtt.tls.cert {shown}: {}", first(&e)))?;
            if chain.is_empty() {
                return Err(format!("mqtt.tls.cert {shown}: holds no certificate in PEM"));
            }
            let password = password.as_ref().map(crate::config::Source::read).transpose()?;
            let bytes = Secret::from_bytes(read_private("mqtt.tls.key", key)?);
            // Without a password OpenSSL would ask on the terminal.
            let given = password.as_ref().map_or(&b""[..], Secret::expose);
            let parsed = PKey::private_key_from_pem_passphrase(bytes.expose(), given);
            let parsed = parsed.map_err(|error| {
                format!("mqtt.tls.key {}: {}; see mqtt.tls.key_password", key.display(), first(&error))
            })?;
            Ok((chain, parsed))
        }
        Identity::Pkcs12 { path, password } => {
            let wrong = |error: ErrorStack| {
                format!("mqtt.tls.pkcs12 {}: {}; see mqtt.tls.key_password", path.display(), first(&error))
            };
            let password = password.as_ref().map(crate::config::Source::read).transpose()?;
            let given = password.as_ref().and_then(Secret::text).unwrap_or_default();
            let bytes = Secret::from_bytes(read_private("mqtt.tls.pkcs12", path)?);
            let parsed =
                Pkcs12::from_der(bytes.expose()).and_then(|file| file.parse2(given)).map_err(wrong)?;
            let (Some(certificate), Some(key)) = (parsed.cert, parsed.pkey) else {
                return Err(format!("mqtt.tls.pkcs12 {}: holds no certificate with its key", path.display()));
            };
            let mut chain = vec![certificate];
            chain.extend(parsed.ca.map(Stack::into_iter).into_iter().flatten());
            Ok((chain, key))
        }
    }
}

/// A file that only its owner, and at most its group, can read.
fn read_private(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let wrong = |error: std::io::Error| format!("{key} {shown}: {error}");
    let mode = fs::metadata(path).map_err(wrong)?.permissions().mode();
    if mode & 0o026 != 0 {
        return Err(format!(
            "{key} {shown}: others can read it, or others or its group can write it; chmod 0640 {shown}"
        ));
    }
    fs::read(path).map_err(wrong)
}
