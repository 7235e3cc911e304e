/**
 * The cluster's own public-key infrastructure: one CA, and certificates whose common name is the user and whose
 * organizations are the groups of Kubernetes' client-certificate authentication. Keys are EC P-256.
 */
import { webcrypto } from 'node:crypto'
import { chmod, mkdir } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { replaceFileDurably } from '../files/replace.ts'
import type { Identity } from './layout.ts'

/** PEM texts of a CA: its certificate, and its private key in PKCS #8. */
export interface CertificateAuthority { cert: string; key: string }
/** PEM texts of one identity; `ca` verifies its peers. */
export interface IssuedIdentity { ca: string; cert: string; key: string }

export interface CertRequest {
  /** The user name, e.g. `system:node:n1`; for servers a host name. */
  commonName: string
  /** The groups, e.g. `system:nodes`. */
  organizations?: string[]
  dnsNames?: string[]
  ipAddresses?: string[]
  /** Extended key usage: may serve TLS. */
  server?: boolean
  /** Extended key usage: may be a TLS client. */
  client?: boolean
  /** Life in days; default one year. */
  days?: number
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const
const DAY_MS = 86_400_000
/** A clock that lags behind the CA's by less than this still accepts a fresh certificate. */
const BACKDATE_MS = 3_600_000

/** Loaded only where certificates are made: parsing ASN.1 schemas costs 25 MB and 0.2 s that no daemon should pay. */
async function x509Library() {
  await import('reflect-metadata')
  return await import('@peculiar/x509')
}

/** A self-signed CA that may sign leaf certificates only. Valid ten years unless `days` says otherwise. */
export async function createCA(commonName: string, days = 3650): Promise<CertificateAuthority> {
  const x509 = await x509Library()
  const keys = await newKeys()
  const usages = x509.KeyUsageFlags
  const now = Date.now()
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    name: [{ CN: [commonName] }],
    keys,
    signingAlgorithm: ALGORITHM,
    serialNumber: serial(),
    notBefore: new Date(now - BACKDATE_MS),
    notAfter: new Date(now + days * DAY_MS),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(usages.keyCertSign | usages.cRLSign | usages.digitalSignature, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  }, webcrypto as Crypto)
  return { cert: `${cert.toString('pem')}\n`, key: await privatePem(keys.privateKey) }
}

/**
 * A new key and a certificate for it, signed by `ca`. At least one of `server` and `client` must be set.
 * Throws TypeError for an address that is none.
 */
export async function issueCert(ca: CertificateAuthority, request: CertRequest): Promise<IssuedIdentity> {
  if (!request.server && !request.client) throw new TypeError('a certificate needs a use: server, client or both')
  for (const ip of request.ipAddresses ?? []) if (isIP(ip) === 0) throw new TypeError(`"${ip}" is not an IP address`)
  const x509 = await x509Library()
  const issuer = new x509.X509Certificate(ca.cert)
  const signingKey = await webcrypto.subtle.importKey('pkcs8', pemBytes(ca.key), ALGORITHM, false, ['sign'])
  const keys = await newKeys()
  const names = [
    ...(request.dnsNames ?? []).map((value) => ({ type: 'dns' as const, value })),
    ...(request.ipAddresses ?? []).map((value) => ({ type: 'ip' as const, value })),
  ]
  const now = Date.now()
  const cert = await x509.X509CertificateGenerator.create({
    subject: [
      ...(request.organizations ?? []).map((o) => ({ O: [o] })),
      { CN: [request.commonName] },
    ],
    issuer: issuer.subjectName,
    publicKey: keys.publicKey,
    signingKey,
    signingAlgorithm: ALGORITHM,
    serialNumber: serial(),
    notBefore: new Date(now - BACKDATE_MS),
    notAfter: new Date(Math.min(now + (request.days ?? 365) * DAY_MS, issuer.notAfter.getTime())),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        ...(request.server ? [x509.ExtendedKeyUsage.serverAuth] : []),
        ...(request.client ? [x509.ExtendedKeyUsage.clientAuth] : []),
      ]),
      ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  }, webcrypto as Crypto)
  return { ca: ca.cert, cert: `${cert.toString('pem')}\n`, key: await privatePem(keys.privateKey) }
}

/** Writes `ca.crt`, `NAME.crt` and `NAME.key` below `dir` (0700; files 0600), each replaced whole. Resolves with their paths. */
export async function writeIdentity(dir: string, pems: IssuedIdentity, name = 'tls'): Promise<Identity> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  await chmod(dir, 0o700)
  const paths = { ca: join(dir, 'ca.crt'), cert: join(dir, `${name}.crt`), key: join(dir, `${name}.key`) }
  await replaceFileDurably(paths.key, pems.key)
  await replaceFileDurably(paths.cert, pems.cert)
  await replaceFileDurably(paths.ca, pems.ca)
  return paths
}

export interface KubeconfigInput {
  /** `https://host:port` */
  server: string
  /** PEM texts. */
  ca: string
  cert: string
  key: string
  /** Name of the cluster and context; default `gantry`. */
  name?: string
  user?: string
  namespace?: string
}

/** A kubeconfig as YAML text with all credentials inline; write it with mode 0600. */
export function kubeconfig(input: KubeconfigInput): string {
  const name = JSON.stringify(input.name ?? 'gantry')
  const user = JSON.stringify(input.user ?? 'admin')
  const base64 = (pem: string) => Buffer.from(pem).toString('base64')
  return `apiVersion: v1
kind: Config
clusters:
- name: ${name}
  cluster:
    server: ${JSON.stringify(input.server)}
    certificate-authority-data: ${base64(input.ca)}
users:
- name: ${user}
  user:
    client-certificate-data: ${base64(input.cert)}
    client-key-data: ${base64(input.key)}
contexts:
- name: ${name}
  context:
    cluster: ${name}
    user: ${user}
${input.namespace === undefined ? '' : `    namespace: ${JSON.stringify(input.namespace)}\n`}current-context: ${name}
`
}

async function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
}

async function privatePem(key: webcrypto.CryptoKey): Promise<string> {
  const base64 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key)).toString('base64')
  return `-----BEGIN PRIVATE KEY-----\n${base64.replace(/.{64}(?=.)/g, '$&\n')}\n-----END PRIVATE KEY-----\n`
}

function pemBytes(pem: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64'))
}

/** Sixteen random bytes; the first is kept in 1…127 so that DER reads a positive number without padding. */
function serial(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(16))
  bytes[0] = (bytes[0]! & 0x7f) | 0x01
  return Buffer.from(bytes).toString('hex')
}
