//! Files over HTTP(S): resumed after a cut (RFC 9110, Range and If-Range), whole or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};

use super::fs::{self, FileError};
use super::tls::{self, Tls};

/// No byte for this long is a cut; a transfer itself may take as long as it does.
const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(20);
/// Tries without any progress, the waits between which double.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// A file that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{url} is not there (HTTP status {status}); was it submitted to this controller?")]
    Missing { url: String, status: u16 },
    #[error("{url} is not what was submitted: its SHA-256 is {found}, not {wanted}")]
    Digest { url: String, found: String, wanted: String },
    #[error("{url} cannot be fetched: {reason}")]
    Unavailable { url: String, reason: String },
    #[error(transparent)]
    File(#[from] FileError),
}

impl HttpError {
    /// Whether fetching it again, or elsewhere, would end the same.
    pub fn is_final(&self) -> bool {
        matches!(self, HttpError::Missing { .. } | HttpError::Digest { .. })
    }
}

/// Fetches files. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
    tls: Tls,
}

/// How one try ended without the whole file.
enum Miss {
    Final(HttpError),
    Again(String),
}

impl From<FileError> for Miss {
    fn from(error: FileError) -> Miss {
        Miss::Final(error.into())
    }
}

impl Http {
    pub fn new(tls: &Tls) -> Result<Http, reqwest::Error> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls.rustls())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .no_proxy()
            .user_agent(concat!("reimzul/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Http { client, tls: tls.clone() })
    }

    /// Whether the server answers at all: any status will do.
    pub async fn answers(&self, url: &Url) -> Result<u16, String> {
        let answer = self.send(self.client.head(url.clone())).await;
        answer.map(|answer| answer.status().as_u16())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, String> {
        let request = request.build().map_err(|error| self.told(&error))?;
        #[cfg(feature = "psk")]
        if self.tls.has_psk() && request.url().scheme() == "https" {
            let sent = tokio::time::timeout(SILENCE, self.send_by_psk(request)).await;
            return sent.unwrap_or_else(|_| Err(format!("no answer within {} s", SILENCE.as_secs())));
        }
        self.client.execute(request).await.map_err(|error| self.told(&error))
    }

    #[cfg(feature = "psk")]
    async fn send_by_psk(&self, request: reqwest::Request) -> Result<Response, String> {
        let url = request.url();
        let address = url.host_str().zip(url.port_or_known_default());
        let address =
            address.and_then(|(host, port)| super::net::Address::new(host.trim_matches(['[', ']']), port));
        let address = address.ok_or_else(|| format!("{url} names no host"))?;
        let stream =
            super::net::connect(&address, Some(&self.tls)).await.map_err(|error| error.to_string())?;
        super::psk::send(request, stream).await
    }

    /// The end of a text, `most` bytes at most (RFC 9110, section 14.1.2), also from a server that knows no ranges.
    pub async fn tail(&self, url: &Url, most: usize) -> Result<Vec<u8>, String> {
        let request = self.client.get(url.clone()).header(RANGE, format!("bytes=-{most}"));
        let mut answer = self.send(request).await?;
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            // What is empty has no range.
            StatusCode::RANGE_NOT_SATISFIABLE => return Ok(Vec::new()),
            status => return Err(format!("the server answers with HTTP status {status}")),
        }
        let mut end = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.told(&error))? {
            end.extend_from_slice(&chunk);
            // Not at each chunk: that would move all of it each time.
            if end.len() > 2 * most {
                end.drain(..end.len() - most);
            }
        }
        end.drain(..end.len().saturating_sub(most));
        Ok(end)
    }

    /// Has the file `to` be what `url` names; with a digest, it is that or an error. What a cut left is in
    /// `<to>.part`, to be gone on with. Nobody else may be at `to` meanwhile.
    pub async fn fetch(&self, url: &Url, to: &Path, sha256: &str) -> Result<(), HttpError> {
        let part = Part::beside(to);
        let (mut tries, mut wait) = (0, FIRST_WAIT);
        loop {
            let before = part.size();
            match self.go_on(url, &part).await {
                Ok(()) => return part.complete(url, to, sha256),
                Err(Miss::Final(error)) => return Err(error),
                Err(Miss::Again(reason)) => {
                    // A cut that let something through is no reason to give up.
                    (tries, wait) =
                        if part.size() > before { (1, FIRST_WAIT) } else { (tries + 1, wait * 2) };
                    if tries >= TRIES {
                        return Err(HttpError::Unavailable { url: url.to_string(), reason });
                    }
                    tracing::warn!("{url}: {reason}; trying again");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    async fn go_on(&self, url: &Url, part: &Part) -> Result<(), Miss> {
        let mut request = self.client.get(url.clone());
        let resumed =
            part.validator().map(|validator| (part.size(), validator)).filter(|(size, _)| *size > 0);
        if let Some((size, validator)) = &resumed {
            request = request.header(RANGE, format!("bytes={size}-")).header(IF_RANGE, validator);
        }
        let answer = self.send(request).await.map_err(Miss::Again)?;
        let goes_on = match (answer.status(), &resumed) {
            (StatusCode::OK, _) => false,
            (StatusCode::PARTIAL_CONTENT, Some((size, _))) if starts_at(&answer, *size) => true,
            (StatusCode::NOT_FOUND | StatusCode::GONE, _) => {
                let status = answer.status().as_u16();
                return Err(Miss::Final(HttpError::Missing { url: url.to_string(), status }));
            }
            (StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT, _) => {
                part.forget();
                return Err(Miss::Again("the server has another file by now".into()));
            }
            (status, _) => return Err(Miss::Again(format!("the server answers with HTTP status {status}"))),
        };
        part.begin(goes_on, validator_of(&answer))?;
        self.pour(answer, part).await
    }

    async fn pour(&self, mut answer: Response, part: &Part) -> Result<(), Miss> {
        let announced = answer.content_length();
        let mut file = std::fs::File::options()
            .append(true)
            .open(&part.path)
            .map_err(FileError::at("write", &part.path))?;
        let mut got = 0;
        loop {
            let chunk = tokio::time::timeout(SILENCE, answer.chunk()).await;
            let silent = |_| Miss::Again(format!("nothing came for {} s", SILENCE.as_secs()));
            let chunk = chunk.map_err(silent)?.map_err(|error| Miss::Again(self.told(&error)))?;
            let Some(chunk) = chunk else { break };
            file.write_all(&chunk).map_err(FileError::at("write", &part.path))?;
            got += chunk.len() as u64;
        }
        match announced {
            Some(announced) if announced != got => {
                Err(Miss::Again(format!("the connection was cut after {got} of {announced} bytes")))
            }
            _ => Ok(file.sync_all().map_err(FileError::at("write", &part.path))?),
        }
    }

    fn told(&self, error: &reqwest::Error) -> String {
        if let Some(told) = tls::find(error, self.tls.files()) {
            return told.to_string();
        }
        let mut deepest: &dyn std::error::Error = error;
        while let Some(source) = deepest.source() {
            deepest = source;
        }
        deepest.to_string()
    }
}

/// The strong validator to go on with. A weak one does not promise the same bytes.
fn validator_of(answer: &Response) -> Option<String> {
    let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    text(ETAG).filter(|tag| !tag.starts_with("W/")).or_else(|| text(LAST_MODIFIED))
}

/// Whether `Content-Range: bytes <first>-<last>/<size>` begins where asked.
fn starts_at(answer: &Response, first: u64) -> bool {
    let range = answer.headers().get("content-range").and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {first}-")))
}

/// The beginning of a file, and what tells whether the server still has that file.
struct Part {
    path: PathBuf,
    tag: PathBuf,
}

impl Part {
    fn beside(to: &Path) -> Part {
        let with = |suffix: &str| {
            let mut name = to.file_name().unwrap_or_default().to_owned();
            name.push(suffix);
            to.with_file_name(name)
        };
        Part { path: with(".part"), tag: with(".tag") }
    }

    fn size(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |found| found.len())
    }

    fn validator(&self) -> Option<String> {
        std::fs::read_to_string(&self.tag).ok()
    }

    /// The tag is written before the first byte it speaks for.
    fn begin(&self, goes_on: bool, validator: Option<String>) -> Result<(), FileError> {
        if goes_on {
            return Ok(());
        }
        self.forget();
        std::fs::File::create(&self.path).map_err(FileError::at("write", &self.path))?;
        validator.map_or(Ok(()), |validator| fs::write_whole(&self.tag, validator.as_bytes()))
    }

    fn complete(&self, url: &Url, to: &Path, sha256: &str) -> Result<(), HttpError> {
        let (found, _) = fs::sha256(&self.path)?;
        if !sha256.is_empty() && found != sha256 {
            self.forget();
            return Err(HttpError::Digest { url: url.to_string(), found, wanted: sha256.to_owned() });
        }
        std::fs::rename(&self.path, to).map_err(FileError::at("write", to))?;
        self.forget();
        Ok(())
    }

    fn forget(&self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(&self.tag);
    }
}
