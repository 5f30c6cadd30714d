//! What a bucket is told to do with objects by itself: keep versions, delete or move them by their age. S3 only, and read only
//! to warn an operator: nothing here is needed to store or restore.

use std::sync::Arc;

use object_store::{
    ClientOptions,
    aws::{AmazonS3, AwsAuthorizer},
    client::{HttpConnector as _, HttpRequest, HttpRequestBody, ReqwestConnector},
    path::Path,
    signer::{Method, Signer as _},
};
use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::time::timeout;
use url::Url;

use super::{Store, StoreOptions};

/// Why a setting could not be read.
#[derive(Debug, Error)]
pub enum BucketError {
    /// Not allowed.
    #[error("denied")]
    Denied,
    /// Not something that this server knows.
    #[error("the server does not tell: HTTP {0}")]
    Unknown(u16),
    /// No answer, or none that can be understood.
    #[error("{0}")]
    Failed(String),
}

/// What becomes of objects that are replaced or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versioning {
    /// They are gone.
    Off,
    /// They stay as noncurrent versions.
    On,
    /// Those of earlier stay.
    Suspended,
}

/// One rule of a bucket's lifecycle, as far as it may concern us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleRule {
    /// Its name; may be empty.
    pub id: String,
    /// The keys that it is for begin with this.
    pub prefix: String,
    /// It deletes objects by their age.
    pub expires: bool,
    /// It moves them to these storage classes, one after the other.
    pub moves_to: Vec<String>,
    /// It deletes noncurrent versions.
    pub expires_noncurrent: bool,
    /// It aborts uploads that were not completed.
    pub aborts_uploads: bool,
}

/// What is needed to ask.
#[derive(Clone)]
pub(super) struct Bucket {
    pub(super) s3: Arc<AmazonS3>,
    pub(super) region: String,
}

impl Bucket {
    /// Reads one document about the bucket; `None` if the server says that there is none, which has the code `absent`. Only
    /// a doctor asks, so the client is made when he does.
    async fn get(
        &self,
        name: &str,
        absent: &str,
        options: &StoreOptions,
    ) -> Result<Option<String>, BucketError> {
        let failed = |error: &dyn std::fmt::Display| BucketError::Failed(error.to_string());
        let client = ClientOptions::new()
            .with_allow_http(true)
            .with_connect_timeout(options.connect_timeout)
            .with_timeout(options.metadata_timeout);
        let client = ReqwestConnector::default().connect(&client);
        let client = client.map_err(|error| failed(&error))?;
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        let url = self.url(name).await?;
        *request.uri_mut() = url.as_str().parse().map_err(|error| failed(&error))?;
        let credential = self.s3.credentials().get_credential().await;
        let credential = credential.map_err(|error| failed(&error))?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|error| failed(&error))?;
        let response = client.execute(request).await;
        let response = response.map_err(|error| failed(&error))?;
        let status = response.status().as_u16();
        let body = response.into_body().bytes().await;
        let body = body.map_err(|error| failed(&error))?;
        let text = String::from_utf8(body.to_vec()).map_err(|error| failed(&error))?;
        match status {
            200 => Ok(Some(text)),
            401 | 403 => Err(BucketError::Denied),
            // The bucket may be missing as well.
            404 if text.contains(&format!("<Code>{absent}</Code>")) => Ok(None),
            status => Err(BucketError::Unknown(status)),
        }
    }

    /// The library tells the address of objects only.
    async fn url(&self, name: &str) -> Result<Url, BucketError> {
        let failed = |error: object_store::Error| BucketError::Failed(error.to_string());
        let lifetime = std::time::Duration::from_secs(60);
        let object = Path::from("object");
        let url = self.s3.signed_url(Method::GET, &object, lifetime).await;
        let mut url = url.map_err(failed)?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop();
        }
        url.set_query(Some(name));
        Ok(url)
    }
}

impl Store {
    /// Whether the bucket keeps versions; `None` = this is no S3.
    pub async fn versioning(&self) -> Option<Result<Versioning, BucketError>> {
        let told = self.told("versioning", "NoSuchVersioningConfiguration");
        let read =
            |text: Option<String>| text.map_or(Ok(Versioning::Off), |it| read_versioning(&it));
        Some(told.await?.and_then(read))
    }

    /// The rules that are in force; `None` = this is no S3.
    pub async fn lifecycle(&self) -> Option<Result<Vec<LifecycleRule>, BucketError>> {
        let told = self.told("lifecycle", "NoSuchLifecycleConfiguration");
        let read = |text: Option<String>| text.map_or(Ok(Vec::new()), |it| read_lifecycle(&it));
        Some(told.await?.and_then(read))
    }

    /// What the server tells of its bucket, in time; `None` = this is no S3.
    async fn told(&self, name: &str, absent: &str) -> Option<Result<Option<String>, BucketError>> {
        let told = self.bucket.as_ref()?.get(name, absent, &self.options);
        let in_time = timeout(self.options.metadata_timeout, told).await;
        let late = |_| Err(BucketError::Failed("no answer in time".to_owned()));
        Some(in_time.unwrap_or_else(late))
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, BucketError> {
    quick_xml::de::from_str(text).map_err(|error| {
        BucketError::Failed(format!("not the document that was asked for: {error}"))
    })
}

fn read_versioning(text: &str) -> Result<Versioning, BucketError> {
    #[derive(Deserialize)]
    #[serde(rename = "VersioningConfiguration", rename_all = "PascalCase")]
    struct Document {
        status: Option<String>,
    }
    let document: Document = parse(text)?;
    Ok(match document.status.as_deref() {
        Some("Enabled") => Versioning::On,
        Some("Suspended") => Versioning::Suspended,
        _ => Versioning::Off,
    })
}

fn read_lifecycle(text: &str) -> Result<Vec<LifecycleRule>, BucketError> {
    let document: Lifecycle = parse(text)?;
    let in_force = document.rule.into_iter().filter(Rule::may_concern_us);
    Ok(in_force.map(LifecycleRule::from).collect())
}

#[derive(Deserialize)]
#[serde(rename = "LifecycleConfiguration", rename_all = "PascalCase")]
struct Lifecycle {
    #[serde(default)]
    rule: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    #[serde(rename = "ID", default)]
    id: String,
    status: String,
    prefix: Option<String>,
    filter: Option<Filter>,
    expiration: Option<Expiration>,
    #[serde(default)]
    transition: Vec<Transition>,
    noncurrent_version_expiration: Option<Present>,
    abort_incomplete_multipart_upload: Option<Present>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    prefix: Option<String>,
    tag: Option<Present>,
    and: Option<Conditions>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Conditions {
    prefix: Option<String>,
    #[serde(default)]
    tag: Vec<Present>,
}

/// `ExpiredObjectDeleteMarker` alone deletes no object.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Expiration {
    days: Option<Present>,
    date: Option<Present>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Transition {
    storage_class: String,
}

/// Anything.
#[derive(Deserialize)]
struct Present {}

impl Rule {
    /// Our objects have no tags.
    fn may_concern_us(&self) -> bool {
        let tagged = self.filter.as_ref().is_some_and(|filter| {
            let conditions = filter.and.as_ref();
            filter.tag.is_some() || conditions.is_some_and(|and| !and.tag.is_empty())
        });
        self.status == "Enabled" && !tagged
    }
}

impl From<Rule> for LifecycleRule {
    fn from(rule: Rule) -> Self {
        let filter = rule.filter;
        let of_filter = filter.and_then(|it| it.prefix.or(it.and.and_then(|and| and.prefix)));
        let by_age = |it: &Expiration| it.days.is_some() || it.date.is_some();
        Self {
            id: rule.id,
            prefix: of_filter.or(rule.prefix).unwrap_or_default(),
            expires: rule.expiration.as_ref().is_some_and(by_age),
            moves_to: rule
                .transition
                .into_iter()
                .map(|it| it.storage_class)
                .collect(),
            expires_noncurrent: rule.noncurrent_version_expiration.is_some(),
            aborts_uploads: rule.abort_incomplete_multipart_upload.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XMLNS: &str = "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";

    #[test]
    fn versioning_is_what_the_document_says() {
        let read = |inner: &str| {
            let text = format!(
                "<?xml version=\"1.0\"?><VersioningConfiguration {XMLNS}>{inner}</VersioningConfiguration>"
            );
            read_versioning(&text).unwrap()
        };
        assert_eq!(read(""), Versioning::Off);
        assert_eq!(read("<Status>Enabled</Status>"), Versioning::On);
        let suspended = "<MfaDelete>Disabled</MfaDelete><Status>Suspended</Status>";
        assert_eq!(read(suspended), Versioning::Suspended);
        assert!(read_versioning("<html>").is_err());
    }

    #[test]
    fn rules_that_are_in_force_for_objects_without_tags_are_read() {
        let text = format!(
            "<LifecycleConfiguration {XMLNS}>
              <Rule><ID>a</ID><Filter><Prefix>logs/</Prefix></Filter><Status>Enabled</Status>
                <Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>
                <Transition><Days>9</Days><StorageClass>DEEP_ARCHIVE</StorageClass></Transition>
                <Expiration><Days>30</Days></Expiration></Rule>
              <Rule><ID>off</ID><Prefix/><Status>Disabled</Status><Expiration><Days>1</Days></Expiration></Rule>
              <Rule><ID>tagged</ID><Filter><And><Prefix/><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter>
                <Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>
              <Rule><Prefix>old/</Prefix><Status>Enabled</Status>
                <Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>
                <NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays></NoncurrentVersionExpiration>
                <AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>
            </LifecycleConfiguration>"
        );
        let moved = LifecycleRule {
            id: "a".to_owned(),
            prefix: "logs/".to_owned(),
            expires: true,
            moves_to: ["GLACIER", "DEEP_ARCHIVE"].map(str::to_owned).into(),
            expires_noncurrent: false,
            aborts_uploads: false,
        };
        let kept = LifecycleRule {
            id: String::new(),
            prefix: "old/".to_owned(),
            expires: false,
            moves_to: Vec::new(),
            expires_noncurrent: true,
            aborts_uploads: true,
        };
        assert_eq!(read_lifecycle(&text).unwrap(), [moved, kept]);
    }
}
