//! Which object store the options describe.

use super::{
    build::Reader,
    fault::{PrefixFault, Problem, Warning},
    object_store::{Backend, ObjectStoreConfig, S3Config, S3Encryption},
    options::{self as opt, OptionSpec},
};

pub(super) fn object_store(
    reader: &mut Reader<'_>,
    warnings: &mut Vec<Warning>,
    compact: bool,
) -> Option<ObjectStoreConfig> {
    let prefix = prefix(reader);
    let backend = match reader.choice(&opt::OBJECT_STORE_BACKEND)? {
        "s3" => s3(reader).map(Backend::S3),
        "gcs" => bucket(reader, &opt::GCS_BUCKET, "OBJECT_STORE_BACKEND=gcs")
            .map(|bucket| Backend::Gcs { bucket }),
        "azure" => bucket(reader, &opt::AZURE_CONTAINER, "OBJECT_STORE_BACKEND=azure")
            .map(|container| Backend::Azure { container }),
        "local" => local(reader),
        _ => {
            warnings.push(Warning::MemoryStore);
            if compact {
                warnings.push(Warning::CompactionOnMemoryStore);
            }
            Some(Backend::Memory)
        }
    };
    Some(ObjectStoreConfig {
        backend: backend?,
        prefix: prefix?,
    })
}

fn prefix(reader: &mut Reader<'_>) -> Option<String> {
    let text = reader.text(&opt::S3_PREFIX)?;
    match parse_prefix(&text) {
        Ok(prefix) => Some(prefix),
        Err(reason) => {
            reader.fault(&opt::S3_PREFIX, Problem::Prefix { reason });
            None
        }
    }
}

/// The prefix as it goes in front of keys: empty, or ending in `/`.
pub fn parse_prefix(text: &str) -> Result<String, PrefixFault> {
    if text == "/" {
        return Ok(String::new());
    }
    let parts = text.strip_suffix('/').ok_or(PrefixFault::NoSlashAtEnd)?;
    if parts.starts_with('/') {
        return Err(PrefixFault::SlashAtBeginning);
    }
    if parts.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(PrefixFault::BadPart);
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"/._-=@".contains(&b);
    if !parts.bytes().all(legal) {
        return Err(PrefixFault::BadCharacter);
    }
    Ok(text.to_owned())
}

fn bucket(reader: &mut Reader<'_>, spec: &OptionSpec, because: &'static str) -> Option<String> {
    let Some(name) = reader.text(spec) else {
        reader.fault(spec, Problem::Missing { because });
        return None;
    };
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.bytes().all(legal) {
        return Some(name);
    }
    reader.fault(spec, Problem::BucketName);
    None
}

fn local(reader: &mut Reader<'_>) -> Option<Backend> {
    if reader.text(&opt::LOCAL_STORAGE_PATH).is_none() {
        let because = "OBJECT_STORE_BACKEND=local";
        reader.fault(&opt::LOCAL_STORAGE_PATH, Problem::Missing { because });
    }
    let root = reader.path(&opt::LOCAL_STORAGE_PATH)?;
    Some(Backend::Local { root })
}

fn s3(reader: &mut Reader<'_>) -> Option<S3Config> {
    let bucket = bucket(reader, &opt::S3_BUCKET, "OBJECT_STORE_BACKEND=s3");
    let endpoint = reader.url(&opt::S3_ENDPOINT);
    let disable_ssl = reader.switch(&opt::S3_DISABLE_SSL).unwrap_or(false);
    let path_style = reader
        .switch(&opt::S3_PATH_STYLE)
        .unwrap_or(endpoint.is_some());
    let is_plain = endpoint.as_ref().is_some_and(|url| url.scheme() == "http");
    if is_plain && !disable_ssl {
        reader.fault(&opt::S3_ENDPOINT, Problem::PlainHttp);
    }
    let faults_before = reader.faults.len();
    let access_key = reader.secret(&opt::S3_ACCESS_KEY);
    let secret_key = reader.secret(&opt::S3_SECRET_KEY);
    let session_token = reader.secret(&opt::S3_SESSION_TOKEN);
    let all_readable = reader.faults.len() == faults_before;
    if all_readable {
        let because = match (&access_key, &secret_key, &session_token) {
            (None, Some(_), _) => Some((&opt::S3_ACCESS_KEY, "S3_SECRET_KEY")),
            (Some(_), None, _) => Some((&opt::S3_SECRET_KEY, "S3_ACCESS_KEY")),
            (None, None, Some(_)) => Some((&opt::S3_ACCESS_KEY, "S3_SESSION_TOKEN")),
            _ => None,
        };
        if let Some((missing, because)) = because {
            reader.fault(missing, Problem::Missing { because });
        }
    }
    Some(S3Config {
        bucket: bucket?,
        region: reader.text(&opt::S3_REGION),
        endpoint,
        access_key,
        secret_key,
        session_token,
        path_style,
        disable_ssl,
        encryption: encryption(reader),
    })
}

fn encryption(reader: &mut Reader<'_>) -> Option<S3Encryption> {
    let asked = reader.choice(&opt::S3_SSE);
    let key_id = reader.text(&opt::S3_SSE_KMS_KEY_ID);
    let bucket_key = reader.switch(&opt::S3_SSE_BUCKET_KEY);
    if key_id.is_some() && !matches!(asked, Some("kms" | "dsse")) {
        let needs = "S3_SSE=kms or S3_SSE=dsse";
        reader.fault(&opt::S3_SSE_KMS_KEY_ID, Problem::WithoutEffect { needs });
    }
    if bucket_key.is_some() && asked != Some("kms") {
        let needs = "S3_SSE=kms";
        reader.fault(&opt::S3_SSE_BUCKET_KEY, Problem::WithoutEffect { needs });
    }
    match asked? {
        "kms" => Some(S3Encryption::Kms { key_id, bucket_key }),
        "dsse" => Some(S3Encryption::Dsse { key_id }),
        _ => Some(S3Encryption::S3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_used_as_it_is_or_refused() {
        assert_eq!(parse_prefix("snapshots/").as_deref(), Ok("snapshots/"));
        assert_eq!(parse_prefix("a/b=1/").as_deref(), Ok("a/b=1/"));
        assert_eq!(parse_prefix("/").as_deref(), Ok(""));
        let refused = [
            ("snapshots", PrefixFault::NoSlashAtEnd),
            ("/a/", PrefixFault::SlashAtBeginning),
            ("a//b/", PrefixFault::BadPart),
            ("a/../b/", PrefixFault::BadPart),
            ("a b/", PrefixFault::BadCharacter),
            ("a%2F/", PrefixFault::BadCharacter),
        ];
        for (text, reason) in refused {
            assert_eq!(parse_prefix(text), Err(reason), "{text}");
        }
    }
}
