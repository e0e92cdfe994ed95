//! The broker's answer to CONNECT: what it takes and decides, or why it refuses.

use paho_mqtt as mqtt;

use crate::uplink::client::{ClientError, Limits};

pub(super) fn refusal(text: &str, code: mqtt::ReasonCode) -> ClientError {
    use mqtt::ReasonCode as Code;
    let keys = match code {
        Code::BadUserNameOrPassword | Code::NotAuthorized => {
            "mqtt.username, mqtt.password and mqtt.client_id"
        }
        Code::ClientIdentifierNotValid => "mqtt.client_id",
        Code::UnsupportedProtocolVersion => "mqtt.version",
        Code::BadAuthenticationMethod => "mqtt.auth",
        // Of all that CONNECT holds only the will can be meant.
        Code::RetainNotSupported | Code::QosNotSupported | Code::TopicNameInvalid => "mqtt.will",
        Code::UseAnotherServer | Code::ServerMoved => "mqtt.url",
        _ => return ClientError::Refused(format!("the broker says: {text}")),
    };
    ClientError::Refused(format!("the broker says: {text}; see {keys}"))
}

/// Why the broker ends the connection, by the code of its DISCONNECT (MQTT 5.0, 3.14.2.1).
pub(in crate::uplink) fn parting(code: u8, client_id: &str) -> ClientError {
    let reason = mqtt::ReasonCode::from(u32::from(code));
    match reason {
        mqtt::ReasonCode::SessionTakenOver => ClientError::TakenOver(client_id.to_owned()),
        // These stay until somebody mends them.
        mqtt::ReasonCode::NotAuthorized
        | mqtt::ReasonCode::AdministrativeAction
        | mqtt::ReasonCode::UseAnotherServer
        | mqtt::ReasonCode::ServerMoved => ClientError::Refused(format!("it said: {reason}")),
        other => ClientError::Lost(format!("the broker said: {other}")),
    }
}

/// The code of MQTT 5 that means the same.
pub(super) fn same(code: mqtt::ConnectReturnCode) -> mqtt::ReasonCode {
    use mqtt::ConnectReturnCode as Old;
    match code {
        Old::Accepted => mqtt::ReasonCode::Success,
        Old::UnacceptableProtocolVersion => mqtt::ReasonCode::UnsupportedProtocolVersion,
        Old::IdentifierRejected => mqtt::ReasonCode::ClientIdentifierNotValid,
        Old::ServerUnavailable => mqtt::ReasonCode::ServerUnavailable,
        Old::BadUserNameOrPassword => mqtt::ReasonCode::BadUserNameOrPassword,
        Old::NotAuthorized => mqtt::ReasonCode::NotAuthorized,
    }
}

pub(super) fn limits(properties: &mqtt::Properties) -> Limits {
    let get = |code| properties.get(code);
    let no = |code| get(code).and_then(|p| p.get_byte()) == Some(0);
    Limits {
        receive_maximum: get(mqtt::PropertyCode::ReceiveMaximum).and_then(|p| p.get_u16()),
        maximum_qos: get(mqtt::PropertyCode::MaximumQos).and_then(|p| p.get_byte()),
        maximum_packet_size: get(mqtt::PropertyCode::MaximumPacketSize).and_then(|p| p.get_u32()),
        retain_unavailable: no(mqtt::PropertyCode::RetainAvailable),
        wildcards_unavailable: no(mqtt::PropertyCode::WildcardSubscriptionAvailable),
        identifiers_unavailable: no(mqtt::PropertyCode::SubscriptionIdentifiersAvailable),
        shared_unavailable: no(mqtt::PropertyCode::SharedSubscriptionAvailable),
        client_id: properties.get_string(mqtt::PropertyCode::AssignedClientIdentifer),
        keep_alive: get(mqtt::PropertyCode::ServerKeepAlive).and_then(|p| p.get_u16()),
        session_expiry: get(mqtt::PropertyCode::SessionExpiryInterval).and_then(|p| p.get_u32()),
    }
}
