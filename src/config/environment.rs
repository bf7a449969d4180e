//! The process's environment, read once at start.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::bail;
use secrecy::SecretString;

/// A copy of the environment; empty values count as absent.
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// Reads the process's environment. Values that are not UTF-8 count as absent.
    pub fn read() -> Self {
        let text =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self(text.collect())
    }

    /// An environment made of `variables`.
    pub fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// A variable, unless it is absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// A secret variable.
    pub fn secret(&self, name: &str) -> Option<SecretString> {
        let secret = self.get(name)?;
        crate::logging::keep_secret(name, secret);
        Some(SecretString::from(secret))
    }

    /// `true`/`false`, `1`/`0`, `yes`/`no`, `on`/`off`.
    pub fn boolean(&self, name: &str) -> anyhow::Result<Option<bool>> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("true" | "1" | "yes" | "on") => Ok(Some(true)),
            Some("false" | "0" | "no" | "off") => Ok(Some(false)),
            Some(other) => bail!("{name}=`{other}` is neither true nor false"),
        }
    }

    /// A whole number above zero.
    pub fn number(&self, name: &str) -> anyhow::Result<Option<u64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse::<u64>() {
            Ok(number) if (1..=u64::from(u32::MAX)).contains(&number) => Ok(Some(number)),
            Ok(_) | Err(_) => bail!("{name}=`{text}` is not a whole number above zero"),
        }
    }

    /// A whole number, zero included.
    pub fn count(&self, name: &str) -> anyhow::Result<Option<u32>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => bail!("{name}=`{text}` is not a whole number"),
        }
    }

    /// The user's home folder.
    pub fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
    }

    /// Folders of tools that the user has moved, by their usual name below the home folder.
    pub fn tool_homes(&self) -> BTreeMap<String, PathBuf> {
        let moved = [
            ("CARGO_HOME", ".cargo"),
            ("RUSTUP_HOME", ".rustup"),
            ("PYENV_ROOT", ".pyenv"),
            ("NVM_DIR", ".nvm"),
            ("SDKMAN_DIR", ".sdkman"),
            ("VOLTA_HOME", ".volta"),
            ("RBENV_ROOT", ".rbenv"),
            ("ASDF_DATA_DIR", ".asdf"),
            ("GOPATH", "go"),
        ];
        let folder = |(name, usual): (&str, &str)| {
            let path = self.get(name).map(PathBuf::from).filter(|path| path.is_absolute())?;
            Some((usual.to_owned(), path))
        };
        moved.into_iter().filter_map(folder).collect()
    }

    /// `$XDG_CONFIG_HOME/patchwright`, or `~/.config/patchwright`.
    pub fn config_folder(&self) -> Option<PathBuf> {
        self.user_folder("XDG_CONFIG_HOME", ".config")
    }

    /// `$XDG_CACHE_HOME/patchwright`, or `~/.cache/patchwright`.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        self.user_folder("XDG_CACHE_HOME", ".cache")
    }

    /// `$TMPDIR`, or `/tmp`.
    pub fn temporary_folder(&self) -> PathBuf {
        self.get("TMPDIR").map(PathBuf::from).filter(|path| path.is_absolute()).unwrap_or_else(|| "/tmp".into())
    }

    /// Names this installation: the machine and the user, for labels of containers.
    pub fn owner(&self) -> String {
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let machine = machine.trim().get(..12).unwrap_or("machine").to_owned();
        format!("{machine}-{}", rustix::process::getuid().as_raw())
    }

    /// Proxies and private certificate authorities, under the names that git reads. A proxy's password is a secret.
    pub fn network_settings_for_git(&self) -> Vec<(String, String)> {
        let renamed = [
            ("HTTPS_PROXY", "HTTPS_PROXY"),
            ("https_proxy", "https_proxy"),
            ("HTTP_PROXY", "HTTP_PROXY"),
            ("http_proxy", "http_proxy"),
            ("ALL_PROXY", "ALL_PROXY"),
            ("all_proxy", "all_proxy"),
            ("NO_PROXY", "NO_PROXY"),
            ("no_proxy", "no_proxy"),
            ("SSL_CERT_FILE", "GIT_SSL_CAINFO"),
            ("SSL_CERT_DIR", "GIT_SSL_CAPATH"),
        ];
        let present = |(from, to): (&str, &str)| {
            let value = self.get(from)?;
            if let Some(password) = url::Url::parse(value).ok().as_ref().and_then(url::Url::password) {
                crate::logging::keep_secret(from, password);
            }
            Some((to.to_owned(), value.to_owned()))
        };
        renamed.into_iter().filter_map(present).collect()
    }

    /// `PATCHWRIGHT_CRASH_AT`: where a test wants the process killed; builds for use ignore it.
    pub fn crash_point(&self) -> Option<&str> {
        self.get("PATCHWRIGHT_CRASH_AT")
    }

    /// `PATCHWRIGHT_WITHOUT`: which defence a test wants switched off; builds for use ignore it.
    pub fn without(&self) -> Option<&str> {
        self.get("PATCHWRIGHT_WITHOUT")
    }

    fn user_folder(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let folder = self.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        Some(folder.or_else(|| Some(self.home()?.join(below_home)))?.join("patchwright"))
    }
}
