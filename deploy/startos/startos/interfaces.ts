import { sdk } from './sdk'

export const apiPort = 8100
export const stratumPort = 3333

export const setInterfaces = sdk.setupInterfaces(async ({ effects }) => {
  const api = await sdk.MultiHost.of(effects, 'api').bindPort(apiPort, { protocol: 'http' })
  const page = sdk.createInterface(effects, {
    id: 'api',
    name: 'Shares and weeks',
    description: "What miners' tools ask, and its description",
    type: 'ui',
    masked: false,
    schemeOverride: null,
    username: null,
    path: '/docs',
    query: {},
  })
  const stratum = await sdk.MultiHost.of(effects, 'stratum').bindPort(stratumPort, {
    protocol: null,
    preferredExternalPort: stratumPort,
    addSsl: null,
    secure: { ssl: false },
  })
  const pool = sdk.createInterface(effects, {
    id: 'stratum',
    name: 'Stratum',
    description: 'Where miners connect; the user is a regtest address',
    type: 'api',
    masked: false,
    schemeOverride: { ssl: null, noSsl: 'stratum+tcp' },
    username: null,
    path: '',
    query: {},
  })
  return [await api.export([page]), await stratum.export([pool])]
})
