//! The table `[mqtt.tls]`.

use super::{Identity, Scheme, TlsConfig, Verify};
use crate::config::secret::Form;
use crate::config::table::Table;
use crate::config::text::Kind;

/// Longest name of a protocol (RFC 7301, 3.1), and most of them: nobody has more.
const LONGEST_PROTOCOL: usize = 255;
const MOST_PROTOCOLS: usize = 16;

/// What the scheme asks for: with TLS there is always something, even if nothing is written.
pub(super) fn read(table: &mut Table, scheme: Option<Scheme>) -> Option<TlsConfig> {
    let encrypted = scheme.is_none_or(Scheme::is_tls);
    let given = table.table("tls");
    if given.is_some() && !encrypted {
        let help = "write mqtts or wss in mqtt.url to encrypt, or remove the table";
        table.fault("tls", "{key} goes with mqtts and wss only", help);
    }
    if given.is_none() && !encrypted {
        return None;
    }
    let mut inner = given.unwrap_or_else(|| table.empty("tls"));
    let ca = inner.path("ca", Kind::Folder);
    let identity = identity(&mut inner);
    let alpn = alpn(&mut inner);
    let ciphers = ciphers(&mut inner);
    let only_1_3 = inner.choice("min_version", &[("1.2", false), ("1.3", true)]);
    if only_1_3.is_none() {
        inner.note("min_version", "1.2".into());
    }
    let is_older = |ciphers: &String| !ciphers.trim_start().starts_with("TLS_");
    if only_1_3 == Some(true) && ciphers.as_ref().is_some_and(is_older) {
        inner.reader.warn("mqtt.tls.ciphers has no effect: TLS 1.3 has other names, which begin with TLS_");
    }
    let verify = verify(&mut inner);
    inner.finish();
    Some(TlsConfig { ca, identity, alpn, ciphers, only_1_3: only_1_3.unwrap_or_default(), verify })
}

fn identity(table: &mut Table) -> Option<Identity> {
    let (has_cert, has_key, has_both) = (table.has("cert"), table.has("key"), table.has("pkcs12"));
    let cert = table.path("cert", Kind::Public);
    let key = table.path("key", Kind::Private);
    let path = table.path("pkcs12", Kind::Private);
    let has_password = table.has("key_password");
    let password = table.secret("key_password", Form::Text);
    if has_both && (has_cert || has_key) {
        let help = "give either cert and key, or pkcs12, which holds both";
        table.fault("pkcs12", "{key} excludes cert and key", help);
    } else if has_cert && !has_key {
        table.fault("cert", "{key} needs its key", "set mqtt.tls.key to the file with the private key");
    } else if has_key && !has_cert {
        table.fault(
            "key",
            "{key} needs its certificate",
            "set mqtt.tls.cert to the file with the certificate",
        );
    }
    if has_password && !has_key && !has_both {
        table.fault("key_password", "{key} goes with key or pkcs12 only", "remove it, or set the other");
    }
    match (cert, key, path) {
        (Some(cert), Some(key), None) => Some(Identity::Pem { cert, key, password }),
        (None, None, Some(path)) => Some(Identity::Pkcs12 { path, password }),
        _ => None,
    }
}

fn alpn(table: &mut Table) -> Vec<String> {
    let given = table.has("alpn");
    let protocols = table.texts("alpn").unwrap_or_default();
    let fits = |name: &String| {
        (1..=LONGEST_PROTOCOL).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
    };
    if protocols.len() > MOST_PROTOCOLS || !protocols.iter().all(fits) {
        let help = "write at most 16 names of 1 to 255 visible ASCII characters, such as \"mqtt\"";
        table.fault("alpn", "{key} holds what is no name of a protocol", help);
    }
    if given {
        table.note("alpn", protocols.clone().into());
    }
    protocols
}

/// OpenSSL's list, or names of TLS 1.3.
fn ciphers(table: &mut Table) -> Option<String> {
    let text = table.text("ciphers")?;
    let words: Vec<_> = text.split([':', ',', ' ']).filter(|word| !word.is_empty()).collect();
    let newest = words.iter().filter(|word| word.starts_with("TLS_")).count();
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-_:+!, ".contains(&b);
    let help = "write OpenSSL's names with colons between, such as \"ECDHE+AESGCM:ECDHE+CHACHA20\"";
    if text.contains('@') {
        table.fault("ciphers", "{key} must not order by itself or change the level of security", help);
    } else if words.is_empty() || !text.bytes().all(known) {
        table.fault("ciphers", "{key} is no list of ciphers", help);
    } else if newest != 0 && newest != words.len() {
        let help = "write either names of TLS 1.3, which begin with TLS_, or the others";
        table.fault("ciphers", "{key} mixes names of TLS 1.3 with others", help);
    }
    Some(text)
}

fn verify(table: &mut Table) -> Verify {
    let words = [("full", Verify::Full), ("ca", Verify::Ca), ("none", Verify::None)];
    let verify = table.choice("verify", &words).unwrap_or_default();
    if verify == Verify::Full {
        table.note("verify", "full".into());
    }
    let insecure = table.flag("insecure", false);
    let (word, who) = match verify {
        Verify::Full => {
            if insecure {
                table.reader.warn("mqtt.tls.insecure has no effect: verify checks everything");
            }
            return verify;
        }
        Verify::Ca => ("ca", "whoever has any certificate of the same authority"),
        Verify::None => ("none", "everybody on the way"),
    };
    if insecure {
        table.reader.warn(format!(
            "mqtt.tls.verify = \"{word}\": {who} can pose as the broker, read the password and send commands"
        ));
    } else {
        let help = "remove it, so that everything is checked, or write insecure = true beside it";
        table.fault("verify", &format!("{{key}} = \"{word}\" needs insecure = true"), help);
    }
    verify
}
