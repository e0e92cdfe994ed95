//! What others see of the gateway: its retained status, and what was agreed with the broker.

use serde_json::json;

use super::client::{ClientError, Outgoing};
use super::paho::confirmed;
use super::session::Life;
use crate::clock::Timestamp;
use crate::record::Body;
use crate::status::{FORMAT, ReportUplink, State};

impl Life {
    /// The retained status of the gateway itself; also its last will.
    pub(super) fn gateway_status(&self, state: State, reason: Option<&str>) -> Outgoing {
        let mut body = Body::new().with("format", &FORMAT).with("state", state.name());
        if let Some(reason) = reason {
            body = body.with("reason", reason);
        }
        body = body.with_time(self.setup.clock.now()).with("run", &self.setup.run);
        if state == State::Online {
            body = body.with("version", env!("CARGO_PKG_VERSION"));
            if let Some(insecure) = self.setup.config.insecure() {
                body = body.with("insecure", insecure);
            }
        }
        let marks = (state == State::Online).then(|| self.topics.marks()).flatten();
        Outgoing {
            topic: self.topics.status(),
            payload: body.object(),
            qos: 1,
            retain: true,
            marks,
            ..Outgoing::default()
        }
    }

    /// Tells the status what was agreed with the broker.
    pub(super) async fn tell(&self, session_present: bool) {
        let (config, limits) = (&self.setup.config, &self.limits);
        let report = json!({
            "broker": self.server,
            "since": Timestamp::now().to_string(),
            "session_present": session_present,
            "client_id": self.client_id(),
            "keep_alive_s": limits.keep_alive.map_or(config.keep_alive.as_secs(), u64::from),
            "session_expiry_s": limits.session_expiry.map_or(config.session_expiry.as_secs(), u64::from),
            "receive_maximum": limits.receive_maximum,
            "max_packet_size": limits.maximum_packet_size,
            "max_qos": limits.maximum_qos,
            "retain": !limits.retain_unavailable,
            "wildcards": !limits.wildcards_unavailable,
            "subscription_identifiers": !limits.identifiers_unavailable,
            "shared_subscriptions": !limits.shared_unavailable,
            "insecure": config.insecure(),
            "tls": self.peer.as_ref().map(|peer| peer.protocol.as_str()),
            "certificate_end": self.peer.as_ref().and_then(|peer| Some(peer.own.as_ref()?.text.as_str())),
            "commands": self.refused.as_deref().map_or("subscribed", |_| "refused"),
            "commands_refused": self.refused,
        });
        if self.setup.report.send(ReportUplink(Ok(report))).await.is_err() {
            tracing::error!("the status is gone");
        }
    }

    /// Who we are to the broker: an id that it gave us is ours until the gateway stops.
    pub(super) fn client_id(&self) -> &str {
        self.assigned.as_deref().unwrap_or(&self.setup.config.client_id)
    }

    /// Tells the log where the broker takes less than the configuration asks for.
    pub(super) fn compare(&self) {
        let (asked, most) = (self.setup.config.qos, self.limits.maximum_qos.unwrap_or(2));
        if most == 0 && asked > 0 {
            tracing::warn!(
                "the broker takes QoS 0 alone and acknowledges nothing: readings may be lost on the way"
            );
        } else if most < asked {
            tracing::warn!(
                asked,
                most,
                "the broker does not take the QoS of mqtt.qos; the next lower one is used"
            );
        }
        if self.limits.retain_unavailable {
            tracing::warn!("the broker retains nothing: who subscribes later sees no status");
        }
    }

    /// Publishes statuses and marks as the broker takes them, and waits until it has them.
    pub(super) async fn say(&self, messages: Vec<Outgoing>) -> Result<(), ClientError> {
        let fitting = messages.into_iter().filter_map(|message| {
            let topic = message.topic.clone();
            let told = |size: &usize| {
                self.setup.counters.too_large.count();
                tracing::error!(topic, size, "larger than the broker takes; not told");
            };
            self.limits.fit(message).inspect_err(told).ok()
        });
        for delivery in self.client.publish(fitting.collect()).await? {
            confirmed(delivery).await?;
        }
        Ok(())
    }
}
