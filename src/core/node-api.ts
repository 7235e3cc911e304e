/**
 * What the server asks of a node over its tunnel. The agent dials `POST /gantry/v1/tunnel` (HTTP/1.1 upgrade, protocol
 * `gantry-tunnel`, client certificate `system:node:NAME`); from the 101 on, the agent is an HTTP/2 server on that
 * connection and the API server its client. One request is one stream; bodies flow with HTTP/2's own flow control.
 *
 *   GET    /logs?namespace&pod&container&follow&previous&tailLines&sinceSeconds&sinceTime&timestamps&limitBytes → text/plain
 *   POST   /exec?namespace&pod&container&command=…&stdin&stdout&stderr&tty     → frames both ways (see frames.ts)
 *   POST   /attach?namespace&pod&container&stdin&stdout&stderr&tty            → frames both ways
 *   POST   /portforward?namespace&pod&port                                    → raw bytes both ways
 *   GET    /stats                                                             → NodeStats
 *   GET    /images                                                            → ImageInfo[]
 *   POST   /images/load            body: tar                                  → progress lines (NDJSON of Progress)
 *   POST   /images/import?reference&config=JSON   body: tar                   → progress lines
 *   POST   /images/pull?reference&insecure  (X-Registry-Auth: base64url JSON)          → progress lines
 *   POST   /images/push?reference&insecure (X-Registry-Auth)                  → progress lines
 *   POST   /images/tag?source&target                                          → {}
 *   DELETE /images?reference&force                                            → {untagged, deleted}
 *   GET    /images/save?reference=…                                           → tar
 *   POST   /build?t=…&dockerfile&target&nocache&buildargs=JSON&labels=JSON    body: tar → progress lines, last one {status:"built", id}
 *   GET    /v2/…                                                              → the distribution protocol, read only
 *
 * A failure before the body is an ApiError Status as JSON with its code; a failure in a progress stream is a last line
 * with `error`. Booleans are `true`/`1`. The public face of these is `/gantry/v1/nodes/NAME/…` on the API server (any
 * verb, authorised as the sub-resource `nodes/proxy`), and the Kubernetes sub-resources of Pods.
 */

/** Channels of a framed stream, numbered as in Kubernetes' v5.channel.k8s.io. */
export const Channel = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4, close: 255 } as const

export interface ContainerUsage { name: string; cpuNs: string; workingSetBytes: number; atMs: number }
export interface PodUsage { namespace: string; name: string; uid: string; rxBytes?: number; txBytes?: number; containers: ContainerUsage[] }
export interface NodeStats { node: string; atMs: number; cpuNs: string; workingSetBytes: number; pods: PodUsage[] }
