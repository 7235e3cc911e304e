/** Pod and what it is made of, but volumes. Notation: see ../registry.ts. */
export const podTypes = `
@ core
Pod = v1: 1 metadata ObjectMeta; 2 spec PodSpec; 3 status PodStatus
PodSpec: 1 volumes []Volume merge,retainKeys(name) map(name); 2 containers []Container! merge(name) map(name);
  3 restartPolicy string; 4 terminationGracePeriodSeconds *int64; 5 activeDeadlineSeconds *int64; 6 dnsPolicy string;
  7 nodeSelector {}string atomic; 8 serviceAccountName string; 9 serviceAccount string; 10 nodeName string; 11 hostNetwork bool;
  12 hostPID bool; 13 hostIPC bool; 14 securityContext *PodSecurityContext;
  15 imagePullSecrets []LocalObjectReference merge(name) map(name); 16 hostname string; 17 subdomain string;
  18 affinity *Affinity; 19 schedulerName string; 20 initContainers []Container merge(name) map(name);
  21 automountServiceAccountToken *bool; 22 tolerations []Toleration atomic; 23 hostAliases []HostAlias merge(ip) map(ip);
  24 priorityClassName string; 25 priority *int32; 26 dnsConfig *PodDNSConfig; 27 shareProcessNamespace *bool;
  28 readinessGates []PodReadinessGate atomic; 29 runtimeClassName *string; 30 enableServiceLinks *bool;
  31 preemptionPolicy *string; 32 overhead {}Quantity;
  33 topologySpreadConstraints []TopologySpreadConstraint merge(topologyKey) map(topologyKey whenUnsatisfiable);
  34 ephemeralContainers []EphemeralContainer merge(name) map(name); 35 setHostnameAsFQDN *bool; 36 os *PodOS;
  37 hostUsers *bool; 38 schedulingGates []PodSchedulingGate merge(name) map(name);
  39 resourceClaims []PodResourceClaim merge,retainKeys(name) map(name); 40 resources *ResourceRequirements;
  41 hostnameOverride *string; 43 schedulingGroup *PodSchedulingGroup;
  44 evictionResponders []EvictionResponder merge(name) map(name)
Volume: 1 name string!; 2 < VolumeSource
Container: 1 name string!; 2 image string; 3 command []string atomic; 4 args []string atomic; 5 workingDir string;
  6 ports []ContainerPort merge(containerPort) map(containerPort protocol); 7 env []EnvVar merge(name) map(name);
  8 resources ResourceRequirements; 9 volumeMounts []VolumeMount merge(mountPath) map(mountPath); 10 livenessProbe *Probe;
  11 readinessProbe *Probe; 12 lifecycle *Lifecycle; 13 terminationMessagePath string; 14 imagePullPolicy string;
  15 securityContext *SecurityContext; 16 stdin bool; 17 stdinOnce bool; 18 tty bool; 19 envFrom []EnvFromSource atomic;
  20 terminationMessagePolicy string; 21 volumeDevices []VolumeDevice merge(devicePath) map(devicePath); 22 startupProbe *Probe;
  23 resizePolicy []ContainerResizePolicy atomic; 24 restartPolicy *string; 25 restartPolicyRules []ContainerRestartRule atomic
ContainerPort: 1 name string; 2 hostPort int32; 3 containerPort int32!; 4 protocol string default="TCP"; 5 hostIP string
EnvFromSource: 1 prefix string; 2 configMapRef *ConfigMapEnvSource; 3 secretRef *SecretEnvSource
ConfigMapEnvSource: 1 < LocalObjectReference atomic; 2 optional *bool
SecretEnvSource: 1 < LocalObjectReference atomic; 2 optional *bool
EnvVar: 1 name string!; 2 value string; 3 valueFrom *EnvVarSource
EnvVarSource: 1 fieldRef *ObjectFieldSelector atomic; 2 resourceFieldRef *ResourceFieldSelector atomic;
  3 configMapKeyRef *ConfigMapKeySelector atomic; 4 secretKeyRef *SecretKeySelector atomic; 5 fileKeyRef *FileKeySelector atomic
ConfigMapKeySelector: 1 < LocalObjectReference atomic; 2 key string!; 3 optional *bool
SecretKeySelector: 1 < LocalObjectReference atomic; 2 key string!; 3 optional *bool
FileKeySelector: 1 volumeName string!; 2 path string!; 3 key string!; 4 optional *bool default=false
ResourceRequirements: 1 limits {}Quantity; 2 requests {}Quantity; 3 claims []ResourceClaim map(name)
ResourceClaim: 1 name string!; 2 request string
ContainerResizePolicy: 1 resourceName string!; 2 restartPolicy string!
ContainerRestartRule: 1 action string; 2 exitCodes *ContainerRestartRuleOnExitCodes
ContainerRestartRuleOnExitCodes: 1 operator string; 2 values []int32 set
VolumeMount: 1 name string!; 2 readOnly bool; 3 mountPath string!; 4 subPath string; 5 mountPropagation *string;
  6 subPathExpr string; 7 recursiveReadOnly *string; 8 bindMountOptions []string set
VolumeDevice: 1 name string!; 2 devicePath string!
Probe: 1 < ProbeHandler; 2 initialDelaySeconds int32; 3 timeoutSeconds int32; 4 periodSeconds int32; 5 successThreshold int32;
  6 failureThreshold int32; 7 terminationGracePeriodSeconds *int64
ProbeHandler: 1 exec *ExecAction; 2 httpGet *HTTPGetAction; 3 tcpSocket *TCPSocketAction; 4 grpc *GRPCAction
ExecAction: 1 command []string atomic
HTTPGetAction: 1 path string; 2 port IntOrString!; 3 host string; 4 scheme string; 5 httpHeaders []HTTPHeader atomic;
  6 protocol *string
HTTPHeader: 1 name string!; 2 value string!
TCPSocketAction: 1 port IntOrString!; 2 host string
GRPCAction: 1 port int32!; 2 service *string default=""; 3 mode *string
Lifecycle: 1 postStart *LifecycleHandler; 2 preStop *LifecycleHandler; 3 stopSignal *string
LifecycleHandler: 1 exec *ExecAction; 2 httpGet *HTTPGetAction; 3 tcpSocket *TCPSocketAction; 4 sleep *SleepAction
SleepAction: 1 seconds int64!
SecurityContext: 1 capabilities *Capabilities; 2 privileged *bool; 3 seLinuxOptions *SELinuxOptions; 4 runAsUser *int64;
  5 runAsNonRoot *bool; 6 readOnlyRootFilesystem *bool; 7 allowPrivilegeEscalation *bool; 8 runAsGroup *int64;
  9 procMount *string; 10 windowsOptions *WindowsSecurityContextOptions; 11 seccompProfile *SeccompProfile;
  12 appArmorProfile *AppArmorProfile
Capabilities: 1 add []string atomic; 2 drop []string atomic
SELinuxOptions: 1 user string; 2 role string; 3 type string; 4 level string
WindowsSecurityContextOptions: 1 gmsaCredentialSpecName *string; 2 gmsaCredentialSpec *string; 3 runAsUserName *string;
  4 hostProcess *bool
SeccompProfile: 1 type string!; 2 localhostProfile *string
AppArmorProfile: 1 type string!; 2 localhostProfile *string
EphemeralContainer: 1 < EphemeralContainerCommon; 2 targetContainerName string
EphemeralContainerCommon: 1 name string!; 2 image string; 3 command []string atomic; 4 args []string atomic;
  5 workingDir string; 6 ports []ContainerPort merge(containerPort) map(containerPort protocol);
  7 env []EnvVar merge(name) map(name); 8 resources ResourceRequirements;
  9 volumeMounts []VolumeMount merge(mountPath) map(mountPath); 10 livenessProbe *Probe; 11 readinessProbe *Probe;
  12 lifecycle *Lifecycle; 13 terminationMessagePath string; 14 imagePullPolicy string; 15 securityContext *SecurityContext;
  16 stdin bool; 17 stdinOnce bool; 18 tty bool; 19 envFrom []EnvFromSource atomic; 20 terminationMessagePolicy string;
  21 volumeDevices []VolumeDevice merge(devicePath) map(devicePath); 22 startupProbe *Probe;
  23 resizePolicy []ContainerResizePolicy atomic; 24 restartPolicy *string; 25 restartPolicyRules []ContainerRestartRule atomic
PodSecurityContext: 1 seLinuxOptions *SELinuxOptions; 2 runAsUser *int64; 3 runAsNonRoot *bool;
  4 supplementalGroups []int64 atomic; 5 fsGroup *int64; 6 runAsGroup *int64; 7 sysctls []Sysctl atomic;
  8 windowsOptions *WindowsSecurityContextOptions; 9 fsGroupChangePolicy *string; 10 seccompProfile *SeccompProfile;
  11 appArmorProfile *AppArmorProfile; 12 supplementalGroupsPolicy *string; 13 seLinuxChangePolicy *string
Sysctl: 1 name string!; 2 value string!
Affinity: 1 nodeAffinity *NodeAffinity; 2 podAffinity *PodAffinity; 3 podAntiAffinity *PodAntiAffinity
NodeAffinity: 1 requiredDuringSchedulingIgnoredDuringExecution *NodeSelector atomic;
  2 preferredDuringSchedulingIgnoredDuringExecution []PreferredSchedulingTerm atomic
NodeSelector: 1 nodeSelectorTerms []NodeSelectorTerm! atomic
NodeSelectorTerm: 1 matchExpressions []NodeSelectorRequirement atomic; 2 matchFields []NodeSelectorRequirement atomic
NodeSelectorRequirement: 1 key string!; 2 operator string!; 3 values []string atomic
PreferredSchedulingTerm: 1 weight int32!; 2 preference NodeSelectorTerm! atomic
PodAffinity: 1 requiredDuringSchedulingIgnoredDuringExecution []PodAffinityTerm atomic;
  2 preferredDuringSchedulingIgnoredDuringExecution []WeightedPodAffinityTerm atomic
PodAffinityTerm: 1 labelSelector *LabelSelector atomic; 2 namespaces []string atomic; 3 topologyKey string!;
  4 namespaceSelector *LabelSelector atomic; 5 matchLabelKeys []string atomic; 6 mismatchLabelKeys []string atomic
WeightedPodAffinityTerm: 1 weight int32!; 2 podAffinityTerm PodAffinityTerm!
PodAntiAffinity: 1 requiredDuringSchedulingIgnoredDuringExecution []PodAffinityTerm atomic;
  2 preferredDuringSchedulingIgnoredDuringExecution []WeightedPodAffinityTerm atomic
Toleration: 1 key string; 2 operator string; 3 value string; 4 effect string; 5 tolerationSeconds *int64
HostAlias: 1 ip string!; 2 hostnames []string atomic
PodDNSConfig: 1 nameservers []string atomic; 2 searches []string atomic; 3 options []PodDNSConfigOption atomic
PodDNSConfigOption: 1 name string; 2 value *string
PodReadinessGate: 1 conditionType string!
TopologySpreadConstraint: 1 maxSkew int32!; 2 topologyKey string!; 3 whenUnsatisfiable string!;
  4 labelSelector *LabelSelector atomic; 5 minDomains *int32; 6 nodeAffinityPolicy *string; 7 nodeTaintsPolicy *string;
  8 matchLabelKeys []string atomic
PodOS: 1 name string!
PodSchedulingGate: 1 name string!
PodResourceClaim: 1 name string!; 3 resourceClaimName *string; 4 resourceClaimTemplateName *string
PodSchedulingGroup: 1 podGroupName *string
EvictionResponder: 1 name string!; 2 priority *int32
PodStatus: 1 phase string; 2 conditions []PodCondition merge(type) map(type); 3 message string; 4 reason string;
  5 hostIP string; 6 podIP string; 7 startTime *Time; 8 containerStatuses []ContainerStatus atomic; 9 qosClass string;
  10 initContainerStatuses []ContainerStatus atomic; 11 nominatedNodeName string; 12 podIPs []PodIP merge(ip) map(ip);
  13 ephemeralContainerStatuses []ContainerStatus atomic; 14 resize string;
  15 resourceClaimStatuses []PodResourceClaimStatus merge,retainKeys(name) map(name); 16 hostIPs []HostIP merge(ip) atomic;
  17 observedGeneration int64; 18 extendedResourceClaimStatus *PodExtendedResourceClaimStatus; 19 allocatedResources {}Quantity;
  20 resources *ResourceRequirements;
  21 nodeAllocatableResourceClaimStatuses []NodeAllocatableResourceClaimStatus merge(resourceClaimName) map(resourceClaimName);
  22 volumeHealth []PodVolumeHealth map(name)
PodCondition: 1 type string!; 2 status string!; 3 lastProbeTime Time; 4 lastTransitionTime Time; 5 reason string;
  6 message string; 7 observedGeneration int64
HostIP: 1 ip string!
PodIP: 1 ip string!
ContainerStatus: 1 name string!; 2 state ContainerState; 3 lastState ContainerState; 4 ready bool!; 5 restartCount int32!;
  6 image string!; 7 imageID string!; 8 containerID string; 9 started *bool; 10 allocatedResources {}Quantity;
  11 resources *ResourceRequirements; 12 volumeMounts []VolumeMountStatus merge(mountPath) map(mountPath);
  13 user *ContainerUser; 14 allocatedResourcesStatus []ResourceStatus merge(name) map(name); 15 stopSignal *string
ContainerState: 1 waiting *ContainerStateWaiting; 2 running *ContainerStateRunning; 3 terminated *ContainerStateTerminated
ContainerStateWaiting: 1 reason string; 2 message string
ContainerStateRunning: 1 startedAt Time
ContainerStateTerminated: 1 exitCode int32!; 2 signal int32; 3 reason string; 4 message string; 5 startedAt Time;
  6 finishedAt Time; 7 containerID string
VolumeMountStatus: 1 name string!; 2 mountPath string!; 3 readOnly bool; 4 recursiveReadOnly *string;
  5 volumeStatus *VolumeStatus
VolumeStatus: 1 image *ImageVolumeStatus
ImageVolumeStatus: 1 imageRef string
ContainerUser: 1 linux *LinuxContainerUser
LinuxContainerUser: 1 uid int64!; 2 gid int64!; 3 supplementalGroups []int64 atomic
ResourceStatus: 1 name string!; 2 resources []ResourceHealth map(resourceID)
ResourceHealth: 1 resourceID string!; 2 health string; 6 message *string
PodResourceClaimStatus: 1 name string!; 2 resourceClaimName *string
PodExtendedResourceClaimStatus: 1 requestMappings []ContainerExtendedResourceRequest! atomic; 2 resourceClaimName string!
ContainerExtendedResourceRequest: 1 containerName string!; 2 resourceName string!; 3 requestName string!
NodeAllocatableResourceClaimStatus: 1 resourceClaimName string!; 2 containers []string set;
  4 mapping []NodeAllocatableMappedResources merge(name) map(name);
  5 overhead []NodeAllocatableOverheadResources merge(name) map(name)
NodeAllocatableMappedResources: 1 name string!; 2 quantity *Quantity
NodeAllocatableOverheadResources: 1 name string!; 2 perPod *Quantity; 3 perContainer *Quantity
PodVolumeHealth: 1 name string!; 2 healthConditions []VolumeHealthCondition merge(status) map(status reason);
  3 lastTransitionTime Time
VolumeHealthCondition: 1 status string!; 2 reason string!; 3 message string
PodTemplateSpec: 1 metadata ObjectMeta; 2 spec PodSpec
`
