//! Every connection that roles have, tried.

use reqwest::Url;

use crate::build::engine::check::{Finding, bad, good};
use crate::config::{Config, EngineChoice};
use crate::role::Role;
use crate::sys::http::Http;
use crate::sys::irc::Irc;
use crate::sys::mqtt::{self, Mqtt};
use crate::sys::net;
use crate::sys::tls::{Tls, TlsFiles};
use crate::upload::rsync::Rsync;

/// A finding for each; queue and history are looked at for all roles alike.
pub async fn of_roles(config: &Config, engine: EngineChoice, roles: &[Role]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let has = |role| roles.contains(&role);
    if has(Role::Worker) {
        findings.extend(web(config, "sources", config.sources.as_ref()).await);
        findings.extend(upload(config).await);
        if engine == EngineChoice::Mock && config.upload.is_some() {
            let repositories = Url::parse(&format!("{}/", config.mock.base_url)).ok();
            findings.extend(web(config, "repositories, for mock", repositories.as_ref()).await);
        }
    }
    if has(Role::Signer) {
        findings.extend(web(config, "packages to be signed", config.signing.url.as_ref()).await);
    }
    if has(Role::Notifier) {
        findings.extend(mail(config).await);
        if config.mail.is_some() {
            findings.extend(web(config, "logs, for mails", config.base_url.as_ref()).await);
        }
    }
    if has(Role::MqttSub) {
        findings.extend(git(config).await);
    }
    if has(Role::Notifier) || has(Role::Irc) || has(Role::MqttSub) {
        findings.extend(broker(config).await);
    }
    if has(Role::Irc) {
        findings.extend(irc(config).await);
    }
    findings
}

/// Whether a web server has a folder.
async fn web(config: &Config, what: &str, url: Option<&Url>) -> Option<Finding> {
    let url = url.filter(|url| url.scheme() != "file")?;
    Some(match answer(&config.tls, url).await {
        Ok(status) if status < 500 && status != 404 => good(format!("{what}: {url} answers")),
        Ok(status) => bad(format!("{what}: {url} answers with HTTP status {status}")),
        Err(why) => bad(format!("{what}: {url}: {why}")),
    })
}

/// Whether the servers of packages and of their sources answer, as far as they speak HTTP. What they have is below.
async fn git(config: &Config) -> Vec<Finding> {
    let Some(scm) = &config.scm else { return Vec::new() };
    let mut findings = Vec::new();
    for url in scm.http_urls() {
        findings.push(match answer(&scm.tls, &url).await {
            Ok(status) if status < 500 => good(format!("requests: {url} answers")),
            Ok(status) => bad(format!("requests: {url} answers with HTTP status {status}")),
            Err(why) => bad(format!("requests: {url}: {why}")),
        });
    }
    findings
}

async fn answer(files: &TlsFiles, url: &Url) -> Result<u16, String> {
    let tls = Tls::open(files).map_err(|error| error.to_string())?;
    Http::new(&tls).map_err(|error| error.to_string())?.answers(url).await
}

/// Whether the mail server lets us in.
async fn mail(config: &Config) -> Option<Finding> {
    let mail = config.mail.as_ref()?;
    Some(match mail.server.check().await {
        Ok(said) => good(format!("mail: {said}")),
        Err(error) => bad(format!("mail: {error}")),
    })
}

/// Whether the broker lets us in.
async fn broker(config: &Config) -> Option<Finding> {
    let broker = config.mqtt.as_ref()?;
    let said = match Tls::open(&broker.tls) {
        Ok(tls) => {
            let (mqtt, _) = Mqtt::start(mqtt::Options {
                address: broker.address.clone(),
                tls,
                client_id: format!("reimzul-check-{}", uuid::Uuid::new_v4().simple()),
                persistent: false,
                subscriptions: Vec::new(),
                hello: None,
            });
            mqtt.tried().await.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    Some(match said {
        Ok(()) => good(format!("mqtt: the broker {} lets us in", broker.address)),
        Err(why) => bad(format!("mqtt: {why}")),
    })
}

/// Whether the IRC server lets us in, and into the channels.
async fn irc(config: &Config) -> Option<Finding> {
    let server = &config.irc.as_ref()?.server;
    Some(match Irc::connect(server).await {
        Ok(irc) => {
            irc.quit().await;
            good(format!("irc: the server {} lets us in", server.address))
        }
        Err(error) => bad(format!("irc: {error}")),
    })
}

/// Whether the bstore takes results.
async fn upload(config: &Config) -> Option<Finding> {
    let module = config.upload.as_ref()?;
    if module.tls {
        // First by ourselves: what is wrong with a certificate is told best by who sees it.
        let said = match Tls::open(&config.tls) {
            Ok(tls) => net::connect(&module.address, Some(&tls)).await.err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = said {
            return Some(bad(format!("upload: {why}")));
        }
    }
    Some(match Rsync::new(module.clone(), config.clone()).check().await {
        Ok(said) => good(format!("upload: {said}")),
        Err(error) => bad(format!("upload: {error}")),
    })
}
