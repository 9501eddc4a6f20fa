//! The keys of a configuration, opened: what targets are signed with, and what their signatures are checked with.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::config::{KeyPlace, Signing, TargetKeys};
use crate::model::Target;
use crate::sys::fs::FileError;
use crate::sys::gpg::{Agent, GpgError};
use crate::sys::openpgp::{KeyError, KeyInfo, PublicKeys, SecretKey, check_private};

/// Keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Gpg(#[from] GpgError),
    #[error("{} is not the public key of {key}, but of {other}; name the right one", path.display())]
    Another { path: PathBuf, key: String, other: String },
}

/// Something that was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Gpg(#[from] GpgError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// A secret key.
#[derive(Debug, Clone)]
pub enum Key {
    File(Box<SecretKey>),
    Agent(Agent),
}

/// What is to be signed.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    Bytes(&'a [u8]),
    /// A file, from an offset to its end.
    Tail(&'a Path, u64),
}

impl Key {
    /// A detached signature in ASCII armor. `folder` is nobody else's.
    pub async fn sign(&self, content: Content<'_>, folder: &Path) -> Result<String, SignError> {
        match (self, content) {
            (Key::File(key), Content::Bytes(bytes)) => Ok(key.sign(bytes)?),
            (Key::File(key), Content::Tail(path, at)) => Ok(key.sign(tail(path, at)?)?),
            (Key::Agent(agent), Content::Bytes(bytes)) => Ok(agent.sign_bytes(bytes, folder).await?),
            (Key::Agent(agent), Content::Tail(path, at)) => {
                let part = folder.join("tail");
                let copied =
                    File::create(&part).and_then(|mut to| io::copy(&mut tail_of(path, at)?, &mut to));
                copied.map_err(FileError::at("write", &part))?;
                Ok(agent.sign(&part).await?)
            }
        }
    }
}

fn tail(path: &Path, at: u64) -> Result<File, FileError> {
    tail_of(path, at).map_err(FileError::at("read", path))
}

fn tail_of(path: &Path, at: u64) -> io::Result<File> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    Ok(file)
}

/// What a target is signed with.
#[derive(Debug, Clone)]
pub struct Keys {
    pub public: PublicKeys,
    /// Of the public key in use.
    pub info: KeyInfo,
    /// Where this host has it.
    pub key: Option<Key>,
}

impl Keys {
    /// Opens what is configured; nothing where targets are staged only.
    pub async fn open(signing: &Signing, keys: &TargetKeys) -> Result<Option<Keys>, RingError> {
        let (key, own) = match &keys.key {
            None => (None, None),
            Some(KeyPlace::File(path)) => {
                let key = SecretKey::read(path, keys.passphrase_file.as_deref())?;
                let (public, info) = (key.public(), key.info());
                (Some(Key::File(Box::new(key))), Some((public, info)))
            }
            Some(KeyPlace::Agent(id)) => {
                if let Some(passphrase) = &keys.passphrase_file {
                    check_private(passphrase)?;
                }
                let agent = Agent::new(id, keys.passphrase_file.as_deref(), signing.timeout);
                let public = agent.public().await?;
                let info = public.info();
                (Some(Key::Agent(agent)), Some((public, info)))
            }
        };
        let Some(path) = &keys.public_key else {
            return Ok(own.map(|(public, info)| Keys { public, info, key }));
        };
        let public = PublicKeys::read(path)?;
        let info = public.info();
        match own {
            Some((_, own)) if own.fingerprint != info.fingerprint => {
                let (key, other) = (own.fingerprint, info.fingerprint);
                Err(RingError::Another { path: path.clone(), key, other })
            }
            own => Ok(Some(Keys { public, info: own.map_or(info, |(_, own)| own), key })),
        }
    }
}

/// All keys of a configuration.
#[derive(Debug, Clone)]
pub struct Ring {
    signing: Signing,
    opened: Vec<(TargetKeys, Keys)>,
}

impl Ring {
    pub async fn open(signing: &Signing) -> Result<Ring, RingError> {
        let mut opened = Vec::new();
        for (_, configured) in signing.all() {
            if let Some(keys) = Keys::open(signing, configured).await? {
                opened.push((configured.clone(), keys));
            }
        }
        Ok(Ring { signing: signing.clone(), opened })
    }

    /// What a target is signed with; nothing where it is staged only.
    pub fn of(&self, target: &Target) -> Option<&Keys> {
        let configured = self.signing.of(target);
        self.opened.iter().find(|(keys, _)| keys == configured).map(|(_, keys)| keys)
    }

    pub fn is_empty(&self) -> bool {
        self.opened.is_empty()
    }

    pub fn all(&self) -> impl Iterator<Item = &Keys> {
        self.opened.iter().map(|(_, keys)| keys)
    }
}
