//! The RPCs by path: one list, which metrics share.

macro_rules! rpcs {
    ($($rpc:ident = $name:literal, $path:pat => ())+) => {
        /// What is called.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names are the protocol's own")]
        pub enum Rpc {
            $($rpc,)+
        }

        impl Rpc {
            /// All of them with their names in metrics.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$rpc, $name)),+];

            /// The RPC of a path; what no other matches is [`Rpc::Unknown`].
            pub(super) fn of(path: &str) -> Self {
                match path {
                    $($path => Self::$rpc,)+
                }
            }
        }
    };
}

rpcs! {
    ModelInfer = "ModelInfer", "/inference.GRPCInferenceService/ModelInfer" => ()
    ModelStreamInfer = "ModelStreamInfer", "/inference.GRPCInferenceService/ModelStreamInfer" => ()
    ServerLive = "ServerLive", "/inference.GRPCInferenceService/ServerLive" => ()
    ServerReady = "ServerReady", "/inference.GRPCInferenceService/ServerReady" => ()
    ModelReady = "ModelReady", "/inference.GRPCInferenceService/ModelReady" => ()
    ServerMetadata = "ServerMetadata", "/inference.GRPCInferenceService/ServerMetadata" => ()
    ModelMetadata = "ModelMetadata", "/inference.GRPCInferenceService/ModelMetadata" => ()
    ModelConfig = "ModelConfig", "/inference.GRPCInferenceService/ModelConfig" => ()
    ModelStatistics = "ModelStatistics", "/inference.GRPCInferenceService/ModelStatistics" => ()
    RepositoryIndex = "RepositoryIndex", "/inference.GRPCInferenceService/RepositoryIndex" => ()
    RepositoryModelLoad = "RepositoryModelLoad", "/inference.GRPCInferenceService/RepositoryModelLoad" => ()
    RepositoryModelUnload = "RepositoryModelUnload", "/inference.GRPCInferenceService/RepositoryModelUnload" => ()
    SharedMemory = "SharedMemory",
        "/inference.GRPCInferenceService/SystemSharedMemoryStatus"
        | "/inference.GRPCInferenceService/SystemSharedMemoryRegister"
        | "/inference.GRPCInferenceService/SystemSharedMemoryUnregister"
        | "/inference.GRPCInferenceService/CudaSharedMemoryStatus"
        | "/inference.GRPCInferenceService/CudaSharedMemoryRegister"
        | "/inference.GRPCInferenceService/CudaSharedMemoryUnregister" => ()
    Settings = "Settings",
        "/inference.GRPCInferenceService/TraceSetting"
        | "/inference.GRPCInferenceService/LogSettings" => ()
    HealthCheck = "HealthCheck", "/grpc.health.v1.Health/Check" => ()
    HealthWatch = "HealthWatch", "/grpc.health.v1.Health/Watch" => ()
    Reflection = "Reflection",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => ()
    Unknown = "none", _ => ()
}
