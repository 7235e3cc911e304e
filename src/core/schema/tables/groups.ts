/** The built-in kinds outside the core group. Notation: see ../registry.ts. */
export const groupTypes = `
@ apps
Deployment = apps/v1: 1 metadata ObjectMeta; 2 spec DeploymentSpec; 3 status DeploymentStatus
DeploymentSpec: 1 replicas *int32; 2 selector *LabelSelector atomic; 3 template PodTemplateSpec!;
  4 strategy DeploymentStrategy retainKeys; 5 minReadySeconds int32; 6 revisionHistoryLimit *int32; 7 paused bool;
  9 progressDeadlineSeconds *int32
DeploymentStrategy: 1 type string; 2 rollingUpdate *RollingUpdateDeployment
RollingUpdateDeployment: 1 maxUnavailable *IntOrString; 2 maxSurge *IntOrString
DeploymentStatus: 1 observedGeneration int64; 2 replicas int32; 3 updatedReplicas int32; 4 availableReplicas int32;
  5 unavailableReplicas int32; 6 conditions []DeploymentCondition merge(type) map(type); 7 readyReplicas int32;
  8 collisionCount *int32; 9 terminatingReplicas *int32
DeploymentCondition: 1 type string; 2 status string; 4 reason string; 5 message string; 6 lastUpdateTime Time;
  7 lastTransitionTime Time
ReplicaSet = apps/v1: 1 metadata ObjectMeta; 2 spec ReplicaSetSpec; 3 status ReplicaSetStatus
ReplicaSetSpec: 1 replicas *int32; 2 selector *LabelSelector atomic; 3 template PodTemplateSpec; 4 minReadySeconds int32
ReplicaSetStatus: 1 replicas int32!; 2 fullyLabeledReplicas int32; 3 observedGeneration int64; 4 readyReplicas int32;
  5 availableReplicas int32; 6 conditions []ReplicaSetCondition merge(type) map(type); 7 terminatingReplicas *int32
ReplicaSetCondition: 1 type string; 2 status string; 3 lastTransitionTime Time; 4 reason string; 5 message string
@ discovery
EndpointSlice = discovery.k8s.io/v1: 1 metadata ObjectMeta; 2 endpoints []Endpoint atomic; 3 ports []EndpointPort atomic;
  4 addressType string!
Endpoint: 1 addresses []string! set; 2 conditions EndpointConditions; 3 hostname *string; 4 targetRef *ObjectReference atomic;
  5 deprecatedTopology {}string; 6 nodeName *string; 7 zone *string; 8 hints *EndpointHints
EndpointConditions: 1 ready *bool; 2 serving *bool; 3 terminating *bool
EndpointHints: 1 forZones []ForZone atomic; 2 forNodes []ForNode atomic
ForZone: 1 name string!
ForNode: 1 name string!
EndpointPort: 1 name *string; 2 protocol *string; 3 port *int32; 4 appProtocol *string
@ coordination
Lease = coordination.k8s.io/v1: 1 metadata ObjectMeta; 2 spec LeaseSpec
LeaseSpec: 1 holderIdentity *string; 2 leaseDurationSeconds *int32; 3 acquireTime *MicroTime; 4 renewTime *MicroTime;
  5 leaseTransitions *int32; 6 strategy *string; 7 preferredHolder *string
@ rbac
Role = rbac.authorization.k8s.io/v1: 1 metadata ObjectMeta; 2 rules []PolicyRule atomic
PolicyRule: 1 verbs []string! atomic; 2 apiGroups []string atomic; 3 resources []string atomic; 4 resourceNames []string atomic;
  5 nonResourceURLs []string atomic
RoleBinding = rbac.authorization.k8s.io/v1: 1 metadata ObjectMeta; 2 subjects []Subject atomic; 3 roleRef RoleRef! atomic
Subject: 1 kind string!; 2 apiGroup string; 3 name string!; 4 namespace string
RoleRef: 1 apiGroup string; 2 kind string!; 3 name string!
ClusterRole = rbac.authorization.k8s.io/v1: 1 metadata ObjectMeta; 2 rules []PolicyRule atomic;
  3 aggregationRule *AggregationRule
AggregationRule: 1 clusterRoleSelectors []LabelSelector atomic
ClusterRoleBinding = rbac.authorization.k8s.io/v1: 1 metadata ObjectMeta; 2 subjects []Subject atomic; 3 roleRef RoleRef! atomic
@ autoscaling
Scale = autoscaling/v1: 1 metadata ObjectMeta; 2 spec ScaleSpec; 3 status ScaleStatus
ScaleSpec: 1 replicas int32 default=0
ScaleStatus: 1 replicas int32!; 2 selector string
@ policy
Eviction = policy/v1: 1 metadata ObjectMeta; 2 deleteOptions *DeleteOptions
@ authentication
TokenRequest = authentication.k8s.io/v1: 1 metadata ObjectMeta; 2 spec TokenRequestSpec; 3 status TokenRequestStatus
TokenRequestSpec: 1 audiences []string atomic; 3 boundObjectRef *BoundObjectReference; 4 expirationSeconds *int64
BoundObjectReference: 1 kind string; 2 apiVersion string; 3 name string; 4 uid string
TokenRequestStatus: 1 token string; 2 expirationTimestamp Time
SelfSubjectReview = authentication.k8s.io/v1: 1 metadata ObjectMeta; 2 status SelfSubjectReviewStatus
SelfSubjectReviewStatus: 1 userInfo UserInfo
UserInfo: 1 username string; 2 uid string; 3 groups []string atomic; 4 extra {}ExtraValue
TokenReview = authentication.k8s.io/v1: 1 metadata ObjectMeta; 2 spec TokenReviewSpec!; 3 status TokenReviewStatus
TokenReviewSpec: 1 token string; 2 audiences []string atomic
TokenReviewStatus: 1 authenticated bool; 2 user UserInfo; 3 error string; 4 audiences []string atomic
@ authorization
SelfSubjectAccessReview = authorization.k8s.io/v1: 1 metadata ObjectMeta; 2 spec SelfSubjectAccessReviewSpec!;
  3 status SubjectAccessReviewStatus
SelfSubjectAccessReviewSpec: 1 resourceAttributes *ResourceAttributes; 2 nonResourceAttributes *NonResourceAttributes
ResourceAttributes: 1 namespace string; 2 verb string; 3 group string; 4 version string; 5 resource string;
  6 subresource string; 7 name string; 8 fieldSelector *FieldSelectorAttributes; 9 labelSelector *LabelSelectorAttributes
FieldSelectorAttributes: 1 rawSelector string; 2 requirements []FieldSelectorRequirement atomic
LabelSelectorAttributes: 1 rawSelector string; 2 requirements []LabelSelectorRequirement atomic
NonResourceAttributes: 1 path string; 2 verb string
SubjectAccessReviewStatus: 1 allowed bool!; 2 reason string; 3 evaluationError string; 4 denied bool
SelfSubjectRulesReview = authorization.k8s.io/v1: 1 metadata ObjectMeta; 2 spec SelfSubjectRulesReviewSpec!;
  3 status SubjectRulesReviewStatus
SelfSubjectRulesReviewSpec: 1 namespace string
SubjectRulesReviewStatus: 1 resourceRules []ResourceRule! atomic; 2 nonResourceRules []NonResourceRule! atomic;
  3 incomplete bool!; 4 evaluationError string
ResourceRule: 1 verbs []string! atomic; 2 apiGroups []string atomic; 3 resources []string atomic;
  4 resourceNames []string atomic
NonResourceRule: 1 verbs []string! atomic; 2 nonResourceURLs []string atomic
SubjectAccessReview = authorization.k8s.io/v1: 1 metadata ObjectMeta; 2 spec SubjectAccessReviewSpec!;
  3 status SubjectAccessReviewStatus
SubjectAccessReviewSpec: 1 resourceAttributes *ResourceAttributes; 2 nonResourceAttributes *NonResourceAttributes;
  3 user string; 4 groups []string atomic; 5 extra {}ExtraValue; 6 uid string
LocalSubjectAccessReview = authorization.k8s.io/v1: 1 metadata ObjectMeta; 2 spec SubjectAccessReviewSpec!;
  3 status SubjectAccessReviewStatus
`
