//! Something on the network answers as it should: a mail bridge, a gateway, any TCP or HTTP address of the settings.

use super::shown;
use async_trait::async_trait;
use moon_actors::domain::{Figure, Finding};
use moon_actors::port::{AlertRules, Check, CheckGroup, Look};
use moon_actors::settings::Endpoint;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Of an answer this much is looked through, bytes.
const MOST_BYTES: usize = 64 << 10;

pub(super) struct EndpointUp {
    name: String,
    endpoint: Endpoint,
}

impl EndpointUp {
    pub(super) fn new(endpoint: &Endpoint) -> Arc<Self> {
        Arc::new(Self { name: format!("endpoint:{}", endpoint.name), endpoint: endpoint.clone() })
    }

    async fn ask(&self) -> Result<String, String> {
        match self.endpoint.url.strip_prefix("tcp://") {
            Some(address) => self.tcp(address.trim_end_matches('/')).await,
            None => self.http().await,
        }
    }

    async fn tcp(&self, address: &str) -> Result<String, String> {
        let mut stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        if self.endpoint.expect.is_empty() {
            return Ok("accepts connections".into());
        }
        let mut said = Vec::new();
        let mut piece = [0; 1024];
        while said.len() < MOST_BYTES {
            let read = stream.read(&mut piece).await.map_err(|e| e.to_string())?;
            if read == 0 {
                break;
            }
            said.extend_from_slice(&piece[..read]);
            if self.is_expected(&said) {
                return Ok("says what it should".into());
            }
        }
        Err(self.unexpected(&said))
    }

    async fn http(&self) -> Result<String, String> {
        // An error of the client names the whole address, in which a password may stand.
        let failed = |e: reqwest::Error| {
            let e = e.without_url();
            std::error::Error::source(&e).map_or_else(|| e.to_string(), |cause| format!("{e}: {cause}"))
        };
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(self.endpoint.timeout)
            .no_proxy()
            .build()
            .map_err(failed)?;
        let mut response = client.get(&self.endpoint.url).send().await.map_err(failed)?;
        let status = response.status();
        let is_right = match self.endpoint.status {
            0 => status.is_success(),
            wanted => status.as_u16() == wanted,
        };
        if !is_right {
            return Err(format!("it answers HTTP {status}"));
        }
        let mut body = Vec::new();
        while body.len() < MOST_BYTES && !self.is_expected(&body) {
            match response.chunk().await.map_err(failed)? {
                Some(chunk) => body.extend_from_slice(&chunk[..chunk.len().min(MOST_BYTES - body.len())]),
                None => return Err(self.unexpected(&body)),
            }
        }
        if self.is_expected(&body) { Ok(format!("answers HTTP {status}")) } else { Err(self.unexpected(&body)) }
    }

    fn is_expected(&self, said: &[u8]) -> bool {
        let expect = self.endpoint.expect.as_bytes();
        expect.is_empty() || said.windows(expect.len()).any(|part| part == expect)
    }

    fn unexpected(&self, said: &[u8]) -> String {
        let begin: String = String::from_utf8_lossy(&said[..said.len().min(80)]).chars().take(60).collect();
        format!("it does not say {:?} but {begin:?}", self.endpoint.expect)
    }
}

#[async_trait]
impl Check for EndpointUp {
    fn name(&self) -> &str {
        &self.name
    }
    fn group(&self) -> CheckGroup {
        CheckGroup::Endpoints
    }
    fn rules(&self) -> Option<AlertRules> {
        Some(AlertRules::both("endpoint.down"))
    }
    fn limit(&self) -> Option<Duration> {
        Some(self.endpoint.timeout + Duration::from_secs(2))
    }
    async fn look(&self, _: &Look) -> Finding {
        let (begun, limit) = (Instant::now(), self.endpoint.timeout);
        let answer = tokio::time::timeout(limit, self.ask()).await;
        let took = begun.elapsed();
        let figure = Figure::new(took.as_secs_f64(), "s").above(None, Some(limit.as_secs_f64()));
        let finding = match answer {
            Ok(Ok(how)) => Finding::ok(format!("{how}, after {}", shown(took))),
            Ok(Err(why)) => Finding::critical(format!("{} is down: {why}", self.endpoint.name)),
            Err(_) => Finding::critical(format!("{} is down: no answer within {}", self.endpoint.name, shown(limit))),
        };
        finding.hint("see that the program behind it runs").figure("answer", figure)
    }
}
