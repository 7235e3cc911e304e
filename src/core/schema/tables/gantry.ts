/** Gantry's own kinds. Notation: see ../registry.ts. They have no protobuf form: the numbers only count. */
export const gantryTypes = `
@ gantry
Machine = gantry.dev/v1: 1 metadata ObjectMeta; 2 spec MachineSpec; 3 status MachineStatus
MachineSpec: 1 driver string; 2 roles []string set; 3 podCIDR string
MachineStatus: 1 address string; 2 phase string; 3 conditions []StatusCondition merge(type) map(type)
StatusCondition: 1 type string!; 2 status string!; 3 reason string; 4 message string; 5 lastTransitionTime Time;
  6 observedGeneration int64; 7 lastUpdateTime Time; 8 lastProbeTime Time; 9 lastHeartbeatTime Time
Route = gantry.dev/v1: 1 metadata ObjectMeta; 2 spec RouteSpec!; 3 status RouteStatus
RouteSpec: 1 host string; 2 path string; 3 tcpPort int32; 4 backend RouteBackend!; 5 sticky bool
RouteBackend: 1 service *RouteService; 2 selector *LabelSelector atomic; 3 port int32
RouteService: 1 name string!; 2 port IntOrString!
RouteStatus: 1 url string; 2 endpoints int32; 3 conditions []StatusCondition merge(type) map(type)
ComposeProject = gantry.dev/v1: 1 metadata ObjectMeta; 2 spec ComposeProjectSpec!; 3 status ComposeProjectStatus
ComposeProjectSpec: 1 services {}ComposeService!; 2 volumes []string set
ComposeService: 1 image string!; 2 command []string atomic; 3 entrypoint []string atomic; 4 environment {}string;
  5 ports []ComposePort atomic; 6 expose []int32 atomic; 7 volumes []ComposeMount atomic; 8 links {}string;
  9 dependsOn {}string; 10 scale *int32; 11 restart string; 12 workingDir string; 13 user string; 14 hostname string;
  15 labels {}string; 16 healthcheck *ComposeHealthcheck; 17 cpuMilli int64; 18 memoryBytes int64; 19 stopGraceMs *int64;
  21 tty bool; 22 stdinOpen bool; 23 privileged bool; 24 capAdd []string atomic;
  25 capDrop []string atomic; 26 readOnly bool
ComposePort: 1 published int32!; 2 target int32!; 3 protocol string!
ComposeMount: 1 type string!; 2 source string; 3 target string!; 4 readOnly bool
ComposeHealthcheck: 1 test []string! atomic; 2 intervalMs int64; 3 timeoutMs int64; 4 retries int32; 5 startPeriodMs int64
ComposeProjectStatus: 1 observedGeneration int64; 2 conditions []StatusCondition merge(type) map(type);
  3 services {}ComposeServiceStatus
ComposeServiceStatus: 1 desired int32!; 2 ready int32!
`
