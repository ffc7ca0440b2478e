//! Server reflection: which services there are, and the files that describe them.
//!
//! Always holds: the files are those that the messages were generated from; versions v1 and v1alpha of reflection are
//! one, they differ in their name only.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

use super::Code;
use super::pb::DESCRIPTORS;
use super::pb::reflection::server_reflection_request::MessageRequest as Asked;
use super::pb::reflection::server_reflection_response::MessageResponse as Told;
use super::pb::reflection::{
    ErrorResponse, FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest, ServerReflectionResponse,
    ServiceResponse,
};
use crate::decode::clip;

/// What can be asked for.
#[derive(Debug, Default)]
struct Known {
    /// Each file as it is sent, by name.
    files: BTreeMap<String, Bytes>,
    /// The file of each service, method, message and enumeration.
    symbols: BTreeMap<String, Bytes>,
    services: Vec<String>,
}

/// See the module; a clone shares what is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Index(Arc<Known>);

impl Index {
    /// All files.
    pub(super) fn new() -> Self {
        let mut known = Known::default();
        // A test reads them all: they can be read.
        for file in FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default().file {
            known.add(&file);
        }
        Self(Arc::new(known))
    }

    /// Answers a question.
    pub(super) fn answer(&self, asked: ServerReflectionRequest) -> ServerReflectionResponse {
        let Known {
            files,
            symbols,
            services,
        } = &*self.0;
        let file = |found: Option<&Bytes>, what: &str| match found {
            Some(bytes) => Told::FileDescriptorResponse(FileDescriptorResponse {
                file_descriptor_proto: vec![bytes.clone()],
            }),
            None => failed(Code::NotFound, format!("there is no '{}' here", clip(what))),
        };
        let told = match &asked.message_request {
            Some(Asked::ListServices(_)) => Told::ListServicesResponse(ListServiceResponse {
                service: services.iter().cloned().map(|name| ServiceResponse { name }).collect(),
            }),
            Some(Asked::FileByFilename(name)) => file(files.get(name), name),
            Some(Asked::FileContainingSymbol(name)) => file(symbols.get(name), name),
            Some(Asked::FileContainingExtension(_) | Asked::AllExtensionNumbersOfType(_)) => {
                failed(Code::NotFound, "there are no extensions here".to_owned())
            }
            None => failed(Code::InvalidArgument, "the request asks for nothing".to_owned()),
        };
        ServerReflectionResponse {
            valid_host: asked.host.clone(),
            original_request: Some(asked),
            message_response: Some(told),
        }
    }
}

fn failed(code: Code, error_message: String) -> Told {
    Told::ErrorResponse(ErrorResponse {
        error_code: code.number(),
        error_message,
    })
}

impl Known {
    fn add(&mut self, file: &FileDescriptorProto) {
        let bytes = Bytes::from(file.encode_to_vec());
        self.files.insert(file.name().to_owned(), bytes.clone());
        for message in &file.message_type {
            self.message(file.package(), message, &bytes);
        }
        for one in &file.enum_type {
            self.symbol(file.package(), one.name(), &bytes);
        }
        for service in &file.service {
            let name = self.symbol(file.package(), service.name(), &bytes);
            for method in &service.method {
                self.symbol(&name, method.name(), &bytes);
            }
            self.services.push(name);
        }
    }

    fn message(&mut self, within: &str, message: &DescriptorProto, file: &Bytes) {
        let name = self.symbol(within, message.name(), file);
        for one in &message.enum_type {
            self.symbol(&name, one.name(), file);
        }
        for nested in &message.nested_type {
            self.message(&name, nested, file);
        }
    }

    fn symbol(&mut self, within: &str, name: &str, file: &Bytes) -> String {
        let name = format!("{within}.{name}");
        self.symbols.insert(name.clone(), file.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(asked: Asked) -> Told {
        let request = ServerReflectionRequest {
            host: "h".into(),
            message_request: Some(asked),
        };
        let answer = Index::new().answer(request.clone());
        assert_eq!(
            (answer.valid_host.as_str(), answer.original_request),
            ("h", Some(request))
        );
        answer.message_response.unwrap()
    }

    #[test]
    fn all_services_are_listed_and_each_can_be_asked_for() {
        let Told::ListServicesResponse(list) = ask(Asked::ListServices(String::new())) else {
            panic!("no list");
        };
        let names: Vec<String> = list.service.into_iter().map(|s| s.name).collect();
        for name in [
            "inference.GRPCInferenceService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ] {
            assert!(names.iter().any(|n| n == name), "{name}");
        }
        let nested = "inference.ModelInferRequest.InferInputTensor".to_owned();
        let method = "inference.GRPCInferenceService.ModelInfer".to_owned();
        for name in names.into_iter().chain([nested, method]) {
            let Told::FileDescriptorResponse(found) = ask(Asked::FileContainingSymbol(name.clone())) else {
                panic!("no file of {name}");
            };
            let file = FileDescriptorProto::decode(&*found.file_descriptor_proto[0]).unwrap();
            assert!(file.dependency.is_empty() && name.starts_with(file.package()), "{name}");
            let again = ask(Asked::FileByFilename(file.name().to_owned()));
            assert_eq!(again, Told::FileDescriptorResponse(found));
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for asked in [
            Asked::FileByFilename("x.proto".into()),
            Asked::FileContainingSymbol("inference.Nothing".into()),
            Asked::AllExtensionNumbersOfType("inference.ModelInferRequest".into()),
        ] {
            let Told::ErrorResponse(error) = ask(asked) else {
                panic!("found")
            };
            assert_eq!(error.error_code, 5);
        }
    }
}
