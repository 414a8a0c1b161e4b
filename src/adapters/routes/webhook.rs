//! A POST to a webhook: chat rooms and programs.
//!
//! Signed as the Standard Webhooks specification says (`webhook-id`, `webhook-timestamp`, `webhook-signature`), so that receivers need no
//! code of their own to check it, and repeats are told apart by `webhook-id`.

use super::http::{Post, Receiver};
use super::secret;
use super::shape::{self, render};
use super::told::Told;
use super::{Adapter, Around, Fault};
use async_trait::async_trait;
use chrono::Utc;
use hmac::{Hmac, KeyInit, Mac};
use moon_actors::port::{Alert, AlertKey, Notice, Notifier, Severity};
use moon_actors::settings::route::Webhook;
use moon_actors::{Error, Result};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct WebhookRoute {
    name: String,
    webhook: Webhook,
    receiver: Receiver,
    around: Arc<Around>,
}

impl WebhookRoute {
    pub(super) fn new(name: String, webhook: Webhook, timeout: Duration, around: Arc<Around>) -> Self {
        let receiver = Receiver::new(webhook.http.clone(), timeout, Arc::clone(&around));
        Self { name, webhook, receiver, around }
    }

    fn post(&self, notice: &Notice) -> Result<Post> {
        let told = Told::new(notice, &self.around.host);
        let (content_type, body) = render(&self.webhook.template, &told, &self.around)?;
        let timestamp = Utc::now().timestamp().to_string();
        let mut headers = vec![("idempotency-key", told.key.clone())];
        if let Some(file) = &self.webhook.secret_file {
            let secret = secret::read_line(&self.around, "secret_file", file)?;
            headers.push(("webhook-signature", signature(&secret, &told.key, &timestamp, &body)?));
        }
        headers.extend([("webhook-id", told.key), ("webhook-timestamp", timestamp)]);
        Ok(Post { content_type, headers, body })
    }
}

/// `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`. A secret that begins with `whsec_` is the base64 of its key.
fn signature(secret: &SecretString, id: &str, timestamp: &str, body: &[u8]) -> Result<String> {
    let text = secret.expose_secret().trim();
    let unusable =
        || Error::unavailable("route.secret", "cannot use secret_file").cause("what follows whsec_ is not base64");
    let key = match text.strip_prefix("whsec_") {
        Some(encoded) => data_encoding::BASE64.decode(encoded.as_bytes()).map_err(|_| unusable())?,
        None => text.as_bytes().to_vec(),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| unusable())?;
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    Ok(format!("v1,{}", data_encoding::BASE64.encode(&mac.finalize().into_bytes())))
}

#[async_trait]
impl Notifier for WebhookRoute {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, notice: &Notice) -> Result<()> {
        self.receiver.post("", self.post(notice)?).await
    }
}

impl Adapter for WebhookRoute {
    /// Also writes an example, because a template shows its mistakes only in use.
    fn ready(&self) -> Result<()> {
        self.post(&example())?;
        self.receiver.ready()
    }

    fn faults(&self) -> Vec<Fault> {
        self.receiver.fault().into_iter().collect()
    }

    fn template_fault(&self) -> Option<String> {
        shape::fault(&self.webhook.template, &Told::new(&example(), &self.around.host), &self.around)
    }
}

fn example() -> Notice {
    Notice::Alert(Alert {
        id: 0,
        key: AlertKey { rule: "example".into(), subject: "moon".into() },
        severity: Severity::Info,
        message: "an example".into(),
        hint: None,
        fired_at: chrono::DateTime::UNIX_EPOCH,
        resolved_at: None,
    })
}
