//! TLS that follows its files: what was rotated on disk is taken up without a restart, for connections made from then
//! on. What is broken is not taken up, so a rotation that went wrong, or is seen half done, ends no service.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::pem::{Contents, Material, TlsError, TlsFiles};

/// Makes a configuration of what the files hold.
type Build<C> = fn(&TlsFiles, Material) -> Result<C, TlsError>;

/// A configuration and the files that it comes from.
pub struct Followed<C> {
    files: TlsFiles,
    build: Build<C>,
    state: Mutex<State<C>>,
}

struct State<C> {
    /// Of the files as they were last seen, taken up or not.
    digest: u128,
    current: Arc<C>,
    expires_at: Option<i64>,
}

impl<C> fmt::Debug for Followed<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followed")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<C: Send + Sync + 'static> Followed<C> {
    /// Reads the files, which must be right.
    pub fn open(files: TlsFiles, build: Build<C>) -> Result<Self, TlsError> {
        let contents = Contents::read(&files);
        let digest = contents.digest();
        let material = contents.parse(&files)?;
        let expires_at = material.expires_at;
        let state = State {
            digest,
            current: Arc::new(build(&files, material)?),
            expires_at,
        };
        Ok(Self {
            files,
            build,
            state: Mutex::new(state),
        })
    }

    /// For the next connection.
    pub fn current(&self) -> Arc<C> {
        self.state().current.clone()
    }

    /// When the certificate in use ends, in seconds since the Unix epoch; none without one of our own.
    pub fn expires_at(&self) -> Option<i64> {
        self.state().expires_at
    }

    /// Looks at the files again; true if they have changed and are in use now. What is wrong with them is told once.
    pub async fn refresh(&self) -> Result<bool, TlsError> {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || Contents::read(&files)).await;
        // The process is stopping.
        let Ok(contents) = read else { return Ok(false) };
        let digest = contents.digest();
        if std::mem::replace(&mut self.state().digest, digest) == digest {
            return Ok(false);
        }
        let material = contents.parse(&self.files)?;
        let expires_at = material.expires_at;
        let current = Arc::new((self.build)(&self.files, material)?);
        let mut state = self.state();
        state.current = current;
        state.expires_at = expires_at;
        Ok(true)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};
    use tokio_rustls::rustls::ServerConfig;

    use super::*;
    use crate::channel::{Identity, server_config};

    struct Pair {
        dir: tempfile::TempDir,
        files: TlsFiles,
    }

    impl Pair {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let identity = Identity {
                cert: dir.path().join("cert.pem"),
                key: dir.path().join("key.pem"),
            };
            let files = TlsFiles {
                identity: Some(identity),
                ca: None,
            };
            let pair = Self { dir, files };
            pair.write(&made());
            pair
        }

        fn write(&self, (cert, key): &(String, String)) {
            fs::write(self.dir.path().join("cert.pem"), cert).unwrap();
            fs::write(self.dir.path().join("key.pem"), key).unwrap();
        }

        fn open(&self) -> Result<Followed<ServerConfig>, TlsError> {
            Followed::open(self.files.clone(), server_config)
        }
    }

    fn made() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[tokio::test]
    async fn a_new_pair_is_taken_up_and_a_broken_one_is_not() {
        let pair = Pair::new();
        let followed = pair.open().unwrap();
        let first = followed.current();
        assert_eq!(followed.refresh().await, Ok(false));

        // Half a rotation: the certificate is new and the key is not.
        let second = made();
        fs::write(pair.dir.path().join("cert.pem"), &second.0).unwrap();
        assert!(matches!(
            followed.refresh().await,
            Err(TlsError::Unusable { .. })
        ));
        assert!(Arc::ptr_eq(&first, &followed.current()));
        assert_eq!(followed.refresh().await, Ok(false), "told once");

        pair.write(&second);
        assert_eq!(followed.refresh().await, Ok(true));
        assert!(!Arc::ptr_eq(&first, &followed.current()));

        fs::remove_file(pair.dir.path().join("key.pem")).unwrap();
        assert!(matches!(
            followed.refresh().await,
            Err(TlsError::Unreadable { .. })
        ));
        assert_eq!(followed.refresh().await, Ok(false));
        // As it was: nothing is in the way of the next rotation.
        pair.write(&second);
        assert_eq!(followed.refresh().await, Ok(true));
    }

    #[test]
    fn what_is_wrong_with_the_files_is_told_without_their_content() {
        let pair = Pair::new();
        let (cert, key) = made();
        let cases = [
            (cert.clone(), "planted".to_owned(), "key.pem"),
            (key.clone(), key.clone(), "cert.pem"),
            (cert.clone(), made().1, "cert.pem"),
            (cert, key.replace("MI", "planted!MI"), "key.pem"),
        ];
        for (cert, key, at) in cases {
            pair.write(&(cert, key));
            let error = pair.open().unwrap_err();
            assert!(error.path().ends_with(at), "{error}");
            let told = format!("{error} {error:?}");
            assert!(
                !told.contains("planted") && !told.contains("BEGIN"),
                "{told}"
            );
        }
    }

    #[test]
    fn the_end_of_the_certificate_is_known() {
        let pair = Pair::new();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 1, 1);
        let cert = params.self_signed(&key).unwrap().pem();
        pair.write(&(cert, key.serialize_pem()));
        assert_eq!(pair.open().unwrap().expires_at(), Some(1_924_992_000));
    }
}
