/** The rest of the core group. Notation: see ../registry.ts. */
export const clusterTypes = `
@ core
LocalObjectReference: 1 name string default=""
TypedLocalObjectReference: 1 apiGroup *string; 2 kind string!; 3 name string!
TypedObjectReference: 1 apiGroup *string; 2 kind string!; 3 name string!; 4 namespace *string
Service = v1: 1 metadata ObjectMeta; 2 spec ServiceSpec; 3 status ServiceStatus
ServiceSpec: 1 ports []ServicePort merge(port) map(port protocol); 2 selector {}string atomic; 3 clusterIP string;
  4 type string; 5 externalIPs []string atomic; 7 sessionAffinity string; 8 loadBalancerIP string;
  9 loadBalancerSourceRanges []string atomic; 10 externalName string; 11 externalTrafficPolicy string;
  12 healthCheckNodePort int32; 13 publishNotReadyAddresses bool; 14 sessionAffinityConfig *SessionAffinityConfig;
  17 ipFamilyPolicy *string; 18 clusterIPs []string atomic; 19 ipFamilies []string atomic;
  20 allocateLoadBalancerNodePorts *bool; 21 loadBalancerClass *string; 22 internalTrafficPolicy *string;
  23 trafficDistribution *string
ServicePort: 1 name string; 2 protocol string default="TCP"; 3 port int32!; 4 targetPort IntOrString; 5 nodePort int32;
  6 appProtocol *string
SessionAffinityConfig: 1 clientIP *ClientIPConfig
ClientIPConfig: 1 timeoutSeconds *int32
ServiceStatus: 1 loadBalancer LoadBalancerStatus; 2 conditions []Condition merge(type) map(type)
LoadBalancerStatus: 1 ingress []LoadBalancerIngress atomic
LoadBalancerIngress: 1 ip string; 2 hostname string; 3 ipMode *string; 4 ports []PortStatus atomic
PortStatus: 1 port int32!; 2 protocol string!; 3 error *string
ReplicationController = v1: 1 metadata ObjectMeta; 2 spec ReplicationControllerSpec; 3 status ReplicationControllerStatus
ReplicationControllerSpec: 1 replicas *int32 default=1; 2 selector {}string atomic; 3 template *PodTemplateSpec;
  4 minReadySeconds int32 default=0
ReplicationControllerStatus: 1 replicas int32!; 2 fullyLabeledReplicas int32; 3 observedGeneration int64; 4 readyReplicas int32;
  5 availableReplicas int32; 6 conditions []ReplicationControllerCondition merge(type) map(type)
ReplicationControllerCondition: 1 type string!; 2 status string!; 3 lastTransitionTime Time; 4 reason string; 5 message string
Node = v1: 1 metadata ObjectMeta; 2 spec NodeSpec; 3 status NodeStatus
NodeSpec: 1 podCIDR string; 2 externalID string; 3 providerID string; 4 unschedulable bool; 5 taints []Taint atomic;
  6 configSource *NodeConfigSource; 7 podCIDRs []string merge set; 8 podPreemptionPolicy *NodePodPreemptionPolicy
Taint: 1 key string!; 2 value string; 3 effect string!; 4 timeAdded *Time
NodeConfigSource: 2 configMap *ConfigMapNodeConfigSource
ConfigMapNodeConfigSource: 1 namespace string!; 2 name string!; 3 uid string; 4 resourceVersion string;
  5 kubeletConfigKey string!
NodePodPreemptionPolicy: 1 disableResizePreemption []string set
NodeStatus: 1 capacity {}Quantity; 2 allocatable {}Quantity; 3 phase string; 4 conditions []NodeCondition merge(type) map(type);
  5 addresses []NodeAddress merge(type) map(type); 6 daemonEndpoints NodeDaemonEndpoints; 7 nodeInfo NodeSystemInfo;
  8 images []ContainerImage atomic; 9 volumesInUse []string atomic; 10 volumesAttached []AttachedVolume atomic;
  11 config *NodeConfigStatus; 12 runtimeHandlers []NodeRuntimeHandler atomic; 13 features *NodeFeatures;
  14 declaredFeatures []string atomic
NodeCondition: 1 type string!; 2 status string!; 3 lastHeartbeatTime Time; 4 lastTransitionTime Time; 5 reason string;
  6 message string
NodeAddress: 1 type string!; 2 address string!
NodeDaemonEndpoints: 1 kubeletEndpoint DaemonEndpoint
DaemonEndpoint: 1 Port int32!
NodeSystemInfo: 1 machineID string!; 2 systemUUID string!; 3 bootID string!; 4 kernelVersion string!; 5 osImage string!;
  6 containerRuntimeVersion string!; 7 kubeletVersion string!; 8 kubeProxyVersion string!; 9 operatingSystem string!;
  10 architecture string!; 11 swap *NodeSwapStatus
NodeSwapStatus: 1 capacity *int64
ContainerImage: 1 names []string atomic; 2 sizeBytes int64
AttachedVolume: 1 name string!; 2 devicePath string!
NodeConfigStatus: 1 assigned *NodeConfigSource; 2 active *NodeConfigSource; 3 lastKnownGood *NodeConfigSource; 4 error string
NodeRuntimeHandler: 1 name string; 2 features *NodeRuntimeHandlerFeatures
NodeRuntimeHandlerFeatures: 1 recursiveReadOnlyMounts *bool; 2 userNamespaces *bool
NodeFeatures: 1 supplementalGroupsPolicy *bool
Namespace = v1: 1 metadata ObjectMeta; 2 spec NamespaceSpec; 3 status NamespaceStatus
NamespaceSpec: 1 finalizers []string atomic
NamespaceStatus: 1 phase string; 2 conditions []NamespaceCondition merge(type) map(type)
NamespaceCondition: 1 type string!; 2 status string!; 4 lastTransitionTime Time; 5 reason string; 6 message string
Event = v1: 1 metadata ObjectMeta!; 2 involvedObject ObjectReference! atomic; 3 reason string; 4 message string;
  5 source EventSource; 6 firstTimestamp Time; 7 lastTimestamp Time; 8 count int32; 9 type string; 10 eventTime MicroTime;
  11 series *EventSeries; 12 action string; 13 related *ObjectReference atomic; 14 reportingComponent string;
  15 reportingInstance string
ObjectReference: 1 kind string; 2 namespace string; 3 name string; 4 uid string; 5 apiVersion string; 6 resourceVersion string;
  7 fieldPath string
EventSource: 1 component string; 2 host string
EventSeries: 1 count int32; 2 lastObservedTime MicroTime
ConfigMap = v1: 1 metadata ObjectMeta; 2 data {}string; 3 binaryData {}bytes; 4 immutable *bool
Secret = v1: 1 metadata ObjectMeta; 2 data {}bytes; 3 type string; 4 stringData {}string; 5 immutable *bool
ServiceAccount = v1: 1 metadata ObjectMeta; 2 secrets []ObjectReference merge(name) map(name);
  3 imagePullSecrets []LocalObjectReference atomic; 4 automountServiceAccountToken *bool
Endpoints = v1: 1 metadata ObjectMeta; 2 subsets []EndpointSubset atomic
EndpointSubset: 1 addresses []EndpointAddress atomic; 2 notReadyAddresses []EndpointAddress atomic;
  3 ports []EndpointPort atomic
EndpointAddress: 1 ip string!; 2 targetRef *ObjectReference atomic; 3 hostname string; 4 nodeName *string
EndpointPort: 1 name string; 2 port int32!; 3 protocol string; 4 appProtocol *string
Binding = v1: 1 metadata ObjectMeta; 2 target ObjectReference! atomic
`
