//! Opening a store as configured.

use std::{path::Path, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    local::LocalFileSystem,
    memory::InMemory,
};
use secrecy::ExposeSecret;

use super::{Method, Observer, Store, StoreError, StoreOptions, bucket::Bucket};
use crate::config::object_store::{Backend, ObjectStoreConfig, S3Config, S3Encryption};

/// Where nobody names one; the library's.
const DEFAULT_REGION: &str = "us-east-1";
/// First pause between retries of one HTTP request; later ones are random and longer.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between retries of one HTTP request.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

impl Store {
    /// Opens the configured store. Makes no request; a local directory that is missing is made, if `options` say so.
    ///
    /// S3 also reads `AWS_*` of the environment the way `object_store` does: server-side encryption when none is
    /// configured (`AWS_SERVER_SIDE_ENCRYPTION`, `AWS_SSE_KMS_KEY_ID`), credentials of the standard chain when none
    /// are, and switches for unusual servers. `AWS_PROFILE` and SSO are not supported by it.
    pub fn open(
        config: &ObjectStoreConfig,
        options: StoreOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StoreError> {
        let inner = match &config.backend {
            Backend::S3(s3) => return open_s3(s3, options, observer),
            Backend::Gcs { bucket } => {
                let mut builder = GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(bucket)
                    .with_retry(retry_config(&options));
                for (key, value) in client_settings(&options) {
                    builder = builder.with_config(GoogleConfigKey::Client(key), value);
                }
                build("gcs", builder.build())?
            }
            Backend::Azure { container } => {
                let mut builder = MicrosoftAzureBuilder::from_env()
                    .with_container_name(container)
                    .with_retry(retry_config(&options));
                for (key, value) in client_settings(&options) {
                    builder = builder.with_config(AzureConfigKey::Client(key), value);
                }
                build("azure", builder.build())?
            }
            Backend::Local { root } => return open_local(root, options, observer),
            Backend::Memory => Arc::new(InMemory::new()),
        };
        Ok(Self::from_object_store(inner, options, observer))
    }
}

fn build<S: ObjectStore>(
    backend: &'static str,
    built: object_store::Result<S>,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    Ok(Arc::new(opened(backend, built)?))
}

fn opened<T>(backend: &'static str, built: object_store::Result<T>) -> Result<T, StoreError> {
    built.map_err(|source| StoreError::Open {
        backend,
        source: Box::new(source),
    })
}

fn open_s3(
    config: &S3Config,
    options: StoreOptions,
    observer: Arc<dyn Observer>,
) -> Result<Store, StoreError> {
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let builder = s3_builder(config, env, &options)?;
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
    let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let inner = Arc::new(opened("s3", builder.build())?);
    let mut store = Store::from_object_store(inner.clone(), options, observer);
    store.bucket = Some(Bucket { s3: inner, region });
    Ok(store)
}

fn open_local(
    root: &Path,
    options: StoreOptions,
    observer: Arc<dyn Observer>,
) -> Result<Store, StoreError> {
    let unusable = |source| StoreError::Root {
        path: root.to_path_buf(),
        source,
    };
    if options.create_root {
        std::fs::create_dir_all(root).map_err(unusable)?;
    } else if !root.is_dir() {
        return Err(StoreError::NoBucket {
            method: Method::List,
            key: root.display().to_string(),
        });
    }
    let root = std::fs::canonicalize(root).map_err(unusable)?;
    let inner = build(
        "local",
        LocalFileSystem::new_with_prefix(&root).map(|local| local.with_fsync(true)),
    )?;
    let mut store = Store::from_object_store(inner, options, observer);
    store.root = Some(Arc::new(root));
    Ok(store)
}

/// The S3 client: the environment's `AWS_*` first, then the configuration, which wins.
fn s3_builder(
    config: &S3Config,
    env: impl Iterator<Item = (String, String)>,
    options: &StoreOptions,
) -> Result<AmazonS3Builder, StoreError> {
    use AmazonS3ConfigKey as ConfigKey;
    let own_keys = config.access_key.is_some();
    // Plain DELETE is what every compatible server has; the bulk call is not.
    let mut builder = AmazonS3Builder::new().with_disable_bulk_delete(true);
    for (name, value) in env {
        let key = name
            .strip_prefix("AWS_")
            .and_then(|_| name.to_ascii_lowercase().parse::<ConfigKey>().ok());
        let credential = matches!(
            key,
            Some(ConfigKey::AccessKeyId | ConfigKey::SecretAccessKey | ConfigKey::Token)
        );
        match key {
            // Half of one credential and half of another would be refused in a confusing way.
            Some(_) if credential && own_keys => {}
            // Nor half of one encryption and half of another.
            Some(ConfigKey::Encryption(_)) if config.encryption.is_some() => {}
            Some(key) if !value.is_empty() => builder = builder.with_config(key, value),
            _ => {}
        }
    }
    builder = builder
        .with_bucket_name(&config.bucket)
        .with_virtual_hosted_style_request(!config.path_style)
        .with_retry(retry_config(options));
    for (key, value) in client_settings(options) {
        builder = builder.with_config(ConfigKey::Client(key), value);
    }
    if options.checksum {
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    if config.disable_ssl {
        builder = builder.with_allow_http(true);
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_config(ConfigKey::S3Endpoint, bucket_endpoint(config, endpoint)?);
    }
    for (name, value) in encryption_settings(config.encryption.as_ref()) {
        let key: ConfigKey = name.parse().map_err(|source| StoreError::Open {
            backend: "s3",
            source: Box::new(source),
        })?;
        builder = builder.with_config(key, value);
    }
    if let Some(key) = &config.access_key {
        builder = builder.with_access_key_id(key.expose_secret());
    }
    if let Some(secret) = &config.secret_key {
        builder = builder.with_secret_access_key(secret.expose_secret());
    }
    if let Some(token) = &config.session_token {
        builder = builder.with_token(token.expose_secret());
    }
    Ok(builder)
}

/// Under the library's names.
fn encryption_settings(asked: Option<&S3Encryption>) -> Vec<(&'static str, String)> {
    let (kind, key_id, bucket_key) = match asked {
        None => return Vec::new(),
        Some(S3Encryption::S3) => ("AES256", None, None),
        Some(S3Encryption::Kms { key_id, bucket_key }) => ("aws:kms", key_id.clone(), *bucket_key),
        Some(S3Encryption::Dsse { key_id }) => ("aws:kms:dsse", key_id.clone(), None),
    };
    let kind = Some(("aws_server_side_encryption", kind.to_owned()));
    let key_id = key_id.map(|id| ("aws_sse_kms_key_id", id));
    let bucket_key = bucket_key.map(|on| ("aws_sse_bucket_key_enabled", on.to_string()));
    kind.into_iter().chain(key_id).chain(bucket_key).collect()
}

/// The endpoint as `object_store` wants it: with virtual-hosted style the bucket is the first label of the host.
fn bucket_endpoint(config: &S3Config, endpoint: &url::Url) -> Result<String, StoreError> {
    let plain = endpoint.as_str().trim_end_matches('/').to_owned();
    if config.path_style {
        return Ok(plain);
    }
    let Some(url::Host::Domain(host)) = endpoint.host() else {
        return Err(StoreError::EndpointHost { endpoint: plain });
    };
    let bucket = &config.bucket;
    if host.starts_with(&format!("{bucket}.")) {
        return Ok(plain);
    }
    let mut hosted = endpoint.clone();
    match hosted.set_host(Some(&format!("{bucket}.{host}"))) {
        Ok(()) => Ok(hosted.as_str().trim_end_matches('/').to_owned()),
        Err(_) => Err(StoreError::EndpointHost { endpoint: plain }),
    }
}

/// Deadlines of the HTTP client; whatever else the environment says about it (a proxy) stays.
///
/// Its read timeout also runs while a request body is sent, so it would cut slow uploads: silence is measured by
/// this module, between the pieces of an answer.
fn client_settings(options: &StoreOptions) -> [(ClientConfigKey, String); 2] {
    let millis = |duration: Duration| format!("{}ms", duration.as_millis());
    [
        (
            ClientConfigKey::ConnectTimeout,
            millis(options.connect_timeout),
        ),
        (ClientConfigKey::Timeout, millis(options.long_timeout)),
    ]
}

fn retry_config(options: &StoreOptions) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: BACKOFF_FIRST,
            max_backoff: BACKOFF_MAX,
            base: 2.0,
        },
        max_retries: options.max_retries,
        retry_timeout: options.body_timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AmazonS3ConfigKey as ConfigKey;

    fn built(config: &S3Config, env: &[(&str, &str)]) -> AmazonS3Builder {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        s3_builder(config, env, &StoreOptions::default()).unwrap()
    }

    fn config() -> S3Config {
        S3Config {
            bucket: "b".to_owned(),
            path_style: true,
            ..S3Config::default()
        }
    }

    #[test]
    fn the_configuration_wins_over_the_environment() {
        let own = S3Config {
            region: Some("eu-central-1".to_owned()),
            endpoint: Some("https://s3.example.com/".parse().unwrap()),
            ..config()
        };
        let env = [
            ("AWS_BUCKET", "other"),
            ("AWS_REGION", "us-west-2"),
            ("AWS_ENDPOINT_URL", "https://other.example.com"),
            ("AWS_ENDPOINT_URL_S3", "https://other.example.com"),
        ];
        let builder = built(&own, &env);
        let value = |key: ConfigKey| builder.get_config_value(&key).unwrap();
        assert_eq!(value(ConfigKey::Bucket), "b");
        assert_eq!(value(ConfigKey::Region), "eu-central-1");
        assert_eq!(value(ConfigKey::S3Endpoint), "https://s3.example.com");
    }

    #[test]
    fn own_keys_are_never_mixed_with_the_environments() {
        let env = [
            ("AWS_ACCESS_KEY_ID", "env-key"),
            ("AWS_SECRET_ACCESS_KEY", "env-secret"),
            ("AWS_SESSION_TOKEN", "env-token"),
        ];
        let own = S3Config {
            access_key: Some("own-key".into()),
            secret_key: Some("own-secret".into()),
            ..config()
        };
        let value = |config: &S3Config, key: ConfigKey| built(config, &env).get_config_value(&key);
        assert_eq!(value(&own, ConfigKey::Token), None);
        assert_eq!(
            value(&own, ConfigKey::AccessKeyId).as_deref(),
            Some("own-key")
        );
        assert_eq!(
            value(&config(), ConfigKey::Token).as_deref(),
            Some("env-token")
        );
    }

    #[test]
    fn encryption_and_unusual_servers_are_set_by_the_environment() {
        let env = [
            ("AWS_SERVER_SIDE_ENCRYPTION", "aws:kms"),
            ("AWS_SSE_KMS_KEY_ID", "key-1"),
            ("AWS_CONDITIONAL_PUT", "disabled"),
            ("AWS_PROXY_URL", "http://proxy.example.com:3128"),
            ("AWS_REGION", ""),
        ];
        let builder = built(&config(), &env);
        let value = |key: &str| builder.get_config_value(&key.parse().unwrap());
        assert_eq!(
            value("aws_server_side_encryption").as_deref(),
            Some("aws:kms")
        );
        assert_eq!(value("aws_sse_kms_key_id").as_deref(), Some("key-1"));
        assert_eq!(value("aws_conditional_put").as_deref(), Some("disabled"));
        assert_eq!(
            value("proxy_url").as_deref(),
            Some("http://proxy.example.com:3128")
        );
        assert_eq!(value("connect_timeout").as_deref(), Some("5000ms"));
        assert_eq!(value("aws_region"), None, "an empty variable is unset");
        assert!(builder.build().is_ok());
    }

    #[test]
    fn a_configured_encryption_is_not_mixed_with_the_environments() {
        let env = [
            ("AWS_SERVER_SIDE_ENCRYPTION", "aws:kms"),
            ("AWS_SSE_KMS_KEY_ID", "key-of-the-environment"),
            ("AWS_SSE_BUCKET_KEY_ENABLED", "false"),
        ];
        let value = |encryption, key: &str| {
            let config = S3Config {
                encryption: Some(encryption),
                ..config()
            };
            built(&config, &env).get_config_value(&key.parse().unwrap())
        };
        let kms = |key_id: Option<&str>, bucket_key| S3Encryption::Kms {
            key_id: key_id.map(str::to_owned),
            bucket_key,
        };
        let own = kms(Some("own"), Some(true));
        assert_eq!(
            value(own.clone(), "aws_server_side_encryption").as_deref(),
            Some("aws:kms")
        );
        assert_eq!(
            value(own.clone(), "aws_sse_kms_key_id").as_deref(),
            Some("own")
        );
        assert_eq!(
            value(own, "aws_sse_bucket_key_enabled").as_deref(),
            Some("true")
        );
        assert_eq!(value(kms(None, None), "aws_sse_kms_key_id"), None);
        assert_eq!(value(kms(None, None), "aws_sse_bucket_key_enabled"), None);
        let plain = value(S3Encryption::S3, "aws_server_side_encryption");
        assert_eq!(plain.as_deref(), Some("AES256"));
        assert_eq!(value(S3Encryption::S3, "aws_sse_kms_key_id"), None);
        let twice = S3Encryption::Dsse { key_id: None };
        let twice = value(twice, "aws_server_side_encryption");
        assert_eq!(twice.as_deref(), Some("aws:kms:dsse"));
    }

    #[test]
    fn with_virtual_hosts_the_bucket_is_part_of_the_host() {
        let at = |endpoint: &str, path_style| {
            let config = S3Config {
                path_style,
                ..config()
            };
            bucket_endpoint(&config, &endpoint.parse().unwrap())
        };
        let path = at("https://s3.example.com:9000/", true).unwrap();
        assert_eq!(path, "https://s3.example.com:9000");
        let hosted = at("https://s3.example.com:9000/", false).unwrap();
        assert_eq!(hosted, "https://b.s3.example.com:9000");
        let already = at("https://b.s3.example.com", false).unwrap();
        assert_eq!(already, "https://b.s3.example.com");
        assert!(matches!(
            at("http://127.0.0.1:9000", false),
            Err(StoreError::EndpointHost { .. })
        ));
    }

    #[test]
    fn half_a_credential_is_refused() {
        let half = S3Config {
            access_key: Some("k".into()),
            ..config()
        };
        assert!(built(&half, &[]).build().is_err());
    }
}
