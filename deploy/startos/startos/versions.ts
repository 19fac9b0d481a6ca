import { VersionGraph, VersionInfo } from '@start9labs/start-sdk'

// The stack brings its own data up to date at its start.
const current = VersionInfo.of({
  version: '0.1.0:0',
  releaseNotes: 'The first version',
  migrations: {
    up: async () => {},
    down: async () => {},
  },
})

export const versionGraph = VersionGraph.of({ current, other: [] })
