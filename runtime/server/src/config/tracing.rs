//! The options of traces: their values, their flags, and the variables that OpenTelemetry gives
//! every program. It sends nothing.

use std::str::FromStr;

use quern_telemetry::{Endpoint, ExportConfig, Headers, ResourceAttributes};
use quern_types::{InvalidSampler, Period, Sampler};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    quantity::{Count, Time, Written},
    reference::{OptionText, Section},
    sections::section,
};
use crate::failure::UsageError;

/// The protocol of OTLP that spans are sent in.
const PROTOCOL: &str = "http/protobuf";

section! {
    /// Traces of requests, sent to a collector of OpenTelemetry. Headers for it are taken from the
    /// variable OTEL_EXPORTER_OTLP_HEADERS alone.
    Tracing in "tracing" {
        /// Address of the collector, which takes OTLP over HTTP: its port is mostly 4318. Not set:
        /// there are no traces. Flag: --otlp-endpoint. Variable: OTEL_EXPORTER_OTLP_ENDPOINT.
        endpoint: Option<CollectorAddress> = None;
        /// Which requests are recorded: "always_on", "always_off" or "traceidratio", and with
        /// "parentbased_" before it only of requests whose callers have not decided it. Flag:
        /// --trace-sampler. Variable: OTEL_TRACES_SAMPLER.
        sampler: SamplerName = SamplerName::default();
        /// Part of the traces that "traceidratio" records, from 0 to 1. Flag: --trace-ratio.
        /// Variable: OTEL_TRACES_SAMPLER_ARG.
        ratio: Ratio = Ratio::default();
        /// The server's name in its traces; not set: "quern". Flag: --service-name. Variable:
        /// OTEL_SERVICE_NAME.
        service_name: Option<String> = None;
        /// What else traces say of the server, as "key=value,key=value". Flag:
        /// --service-attributes. Variable: OTEL_RESOURCE_ATTRIBUTES.
        attributes: Option<Attributes> = None;
        /// Spans that wait to be sent; more are dropped, and counted.
        max_waiting: Count<1, 1_000_000> = Count(8_192);
        /// How long a span waits for others to be sent with it.
        delay: Time<0, 60_000> = Time(Period::from_millis(1_000));
        /// Longest time for one request to the collector.
        timeout: Time<100, 60_000> = Time(Period::from_millis(10_000));
    }
}

/// Where a collector is, as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CollectorAddress(String, Endpoint);

/// The name of a sampler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SamplerName(String);

/// A part of something, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio(f64);

/// Attributes of the server, as they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attributes(String, ResourceAttributes);

/// A flag that counts as absent where it is empty, as variables of OpenTelemetry do.
#[derive(Debug, Clone)]
pub(super) struct Given<T>(Option<T>);

/// The flags that override the section.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct TracingFlags {
    /// Collector to which traces of requests are sent, over HTTP; its port is mostly 4318
    /// [default: none, and no traces]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<Given<CollectorAddress>>,

    /// Which requests are recorded, by the names of OpenTelemetry's samplers
    /// [default: parentbased_always_on]
    #[arg(long, env = "OTEL_TRACES_SAMPLER", value_name = "NAME")]
    trace_sampler: Option<Given<SamplerName>>,

    /// Part of the traces that the samplers with "traceidratio" in their names record, from 0 to 1
    /// [default: 1.0]
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "RATIO")]
    trace_ratio: Option<Given<Ratio>>,

    /// The server's name in traces [default: quern]
    #[arg(long, env = "OTEL_SERVICE_NAME", value_name = "NAME")]
    service_name: Option<Given<String>>,

    /// What else traces say of the server [default: nothing]
    #[arg(long, env = "OTEL_RESOURCE_ATTRIBUTES", value_name = "KEY=VALUE,…")]
    service_attributes: Option<Given<Attributes>>,
}

impl TracingFlags {
    pub(super) fn override_options(self, options: &mut Tracing) {
        fn set<T>(option: &mut T, flag: Option<Given<T>>) {
            if let Some(Given(Some(value))) = flag {
                *option = value;
            }
        }
        fn set_some<T>(option: &mut Option<T>, flag: Option<Given<T>>) {
            if let Some(Given(Some(value))) = flag {
                *option = Some(value);
            }
        }
        set_some(&mut options.endpoint, self.otlp_endpoint);
        set(&mut options.sampler, self.trace_sampler);
        set(&mut options.ratio, self.trace_ratio);
        set_some(&mut options.service_name, self.service_name);
        set_some(&mut options.attributes, self.service_attributes);
    }
}

impl Tracing {
    /// Which requests are recorded.
    pub(crate) fn sampler(&self) -> Result<Sampler, InvalidSampler> {
        Sampler::new(&self.sampler.0, self.ratio.0)
    }

    /// Where spans are sent; none where they are not. `variable` reads the environment, where the
    /// headers are: they are mostly secrets.
    pub(crate) fn export(
        &self,
        version: &'static str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<ExportConfig>, UsageError> {
        let Some(CollectorAddress(_, endpoint)) = &self.endpoint else { return Ok(None) };
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let is_off = given("OTEL_SDK_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true"))
            || given("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter == "none");
        if is_off {
            return Ok(None);
        }
        if let Some(protocol) = given("OTEL_EXPORTER_OTLP_PROTOCOL")
            && protocol != PROTOCOL
        {
            return Err(UsageError(format!(
                "OTEL_EXPORTER_OTLP_PROTOCOL is {protocol:?}: traces are sent as {PROTOCOL} alone, \
                 which collectors take at port 4318"
            )));
        }
        let headers = given("OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default();
        let headers: Headers = headers
            .parse()
            .map_err(|error| UsageError(format!("OTEL_EXPORTER_OTLP_HEADERS: {error}")))?;
        let attributes = self.attributes.as_ref();
        Ok(Some(ExportConfig {
            endpoint: endpoint.clone(),
            headers,
            service_name: self.service_name.clone(),
            attributes: attributes.map(|given| given.1.clone()).unwrap_or_default(),
            version,
            queue: usize::try_from(self.max_waiting.0).unwrap_or(usize::MAX),
            delay: self.delay.0.0,
            timeout: self.timeout.0.0,
        }))
    }
}

impl Default for SamplerName {
    fn default() -> Self {
        Self("parentbased_always_on".into())
    }
}

impl Default for Ratio {
    fn default() -> Self {
        Self(1.0)
    }
}

impl FromStr for CollectorAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let endpoint = text.parse().map_err(|error| format!("{error}"))?;
        Ok(Self(text.to_owned(), endpoint))
    }
}

impl FromStr for SamplerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let checked = Sampler::new(text, 1.0).map_err(|error| error.to_string());
        checked.map(|_| Self(text.to_owned()))
    }
}

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ratio = text.parse().map_err(|_| format!("{text:?} is not a number from 0 to 1"))?;
        Self::checked(ratio)
    }
}

impl Ratio {
    fn checked(ratio: f64) -> Result<Self, String> {
        let checked = Sampler::new("traceidratio", ratio).map_err(|error| error.to_string());
        checked.map(|_| Self(ratio))
    }
}

impl FromStr for Attributes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let attributes = text.parse().map_err(|error| format!("{error}"))?;
        Ok(Self(text.to_owned(), attributes))
    }
}

impl<T: FromStr<Err: std::fmt::Display>> FromStr for Given<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().map(|value| Self(Some(value))).map_err(|error: T::Err| error.to_string())
    }
}

/// Makes a value readable in the file where it is a text.
macro_rules! text_options {
    ($($name:ident)*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        impl Written for $name {
            fn written(&self) -> Option<String> {
                self.0.written()
            }
        }
    )*};
}

text_options!(CollectorAddress SamplerName Attributes);

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::checked(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Written for Ratio {
    fn written(&self) -> Option<String> {
        Some(format!("{:?}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracing() -> Tracing {
        let endpoint = "http://localhost:4318".parse().expect("an address");
        Tracing { endpoint: Some(endpoint), ..Tracing::default() }
    }

    fn export(variables: &[(&str, &str)]) -> Result<Option<ExportConfig>, UsageError> {
        tracing().export("1", |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_is_sent_without_a_collector_or_where_the_environment_says_so() {
        let off = Tracing::default().export("1", |_| None).expect("nothing is wrong");
        assert!(off.is_none());
        for (variable, value) in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert!(export(&[(variable, value)]).expect("nothing is wrong").is_none());
        }
        for variables in [
            &[][..],
            &[("OTEL_SDK_DISABLED", ""), ("OTEL_EXPORTER_OTLP_PROTOCOL", "")],
            &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), ("OTEL_SDK_DISABLED", "false")],
        ] {
            assert!(export(variables).expect("nothing is wrong").is_some(), "{variables:?}");
        }
    }

    #[test]
    fn what_can_not_be_kept_is_named() {
        for (variable, value) in
            [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_HEADERS", "secret")]
        {
            let error = export(&[(variable, value)]).expect_err(variable).to_string();
            assert!(error.contains(variable) && !error.contains("secret"), "{error}");
        }
        assert!("jaeger_remote".parse::<SamplerName>().is_err());
        for ratio in ["", "2", "-1", "half"] {
            assert!(ratio.parse::<Ratio>().is_err(), "{ratio}");
        }
        assert!("a".parse::<Attributes>().is_err());
    }

    #[test]
    fn flags_override_the_file_but_for_empty_ones() {
        let mut options = Tracing { service_name: Some("a".into()), ..tracing() };
        let flags = TracingFlags {
            otlp_endpoint: "".parse().ok(),
            trace_sampler: "traceidratio".parse().ok(),
            trace_ratio: "0.25".parse().ok(),
            service_name: "b".parse().ok(),
            service_attributes: "k=v".parse().ok(),
        };
        flags.override_options(&mut options);
        assert_eq!(options.endpoint, tracing().endpoint);
        assert_eq!(options.service_name.as_deref(), Some("b"));
        let sampler = Sampler::new("traceidratio", 0.25);
        assert_eq!(options.sampler(), sampler);
        assert_eq!(options.attributes, "k=v".parse().ok());
    }
}
