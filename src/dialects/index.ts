/** The dialects a server speaks besides the core's own kinds. To add one: write its folder, and name it here. */
import type { Dialect } from '../server/dialect.ts'
import { compose } from './compose/index.ts'
import { dialect as kubernetesV1beta1 } from './kubernetes-v1beta1/index.ts'

export const dialects: readonly Dialect[] = [compose, kubernetesV1beta1]
