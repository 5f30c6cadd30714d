//! Where spans are sent.

use super::{Endpoint, build::Reader, fault::Problem, network, options as opt};

/// The collector, if there is one. A program that cannot send spans says so, instead of sending none.
pub(super) fn endpoint(reader: &mut Reader<'_>) -> Option<Endpoint> {
    let spec = &opt::OTLP_ENDPOINT;
    reader.raw(spec.key)?;
    if !cfg!(feature = "otlp") {
        reader.fault(spec, Problem::NotBuiltIn { feature: "otlp" });
        return None;
    }
    let endpoint = network::endpoint(reader, spec)?;
    network::check_callable(reader, spec, &endpoint);
    if endpoint.is_encrypted() {
        reader.fault(spec, Problem::PlainOnly);
    }
    Some(endpoint)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError, FlagValue, Sources, load};

    fn with(endpoint: &str) -> Result<Config, ConfigError> {
        let given = [("S3_BUCKET", "bucket"), ("OTLP_ENDPOINT", endpoint)];
        let flags = given.map(|(key, value)| FlagValue {
            key: key.to_owned(),
            value: value.to_owned(),
            flag: format!("--set {key}"),
        });
        let sources = Sources {
            flags: flags.into(),
            ..Sources::default()
        };
        load(&sources).config
    }

    #[cfg(not(feature = "otlp"))]
    #[test]
    fn a_program_without_the_feature_refuses_the_option_and_says_how_to_build_one() {
        let told = with("http://collector:4317").unwrap_err().to_string();
        assert!(
            told.contains("OTLP_ENDPOINT = \"http://collector:4317\" (flag --set OTLP_ENDPOINT)"),
            "{told}"
        );
        assert!(
            told.contains("fix: build it with `cargo build --release --features otlp`"),
            "{told}"
        );
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn a_collector_is_an_endpoint_that_can_be_called() {
        let collector = with("http://collector:4317").unwrap().otlp_endpoint;
        assert_eq!(collector.unwrap().to_string(), "http://collector:4317");
        for bad in ["https://collector:4317", "collector", "collector:0"] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn without_the_option_and_with_an_empty_one_there_is_no_collector() {
        assert_eq!(with("").unwrap().otlp_endpoint, None);
    }
}
