/** The Kubernetes API of 2014, as the talk's slides use it. It adds no kinds: its objects are the core's in older dress. */
import type { Dialect } from '../../server/dialect.ts'
import { mountFront } from './front.ts'

export { convertV1beta1 } from './convert.ts'

export const dialect: Dialect = { name: 'kubernetes-v1beta1', mount: mountFront }
