// Images of replicas and front. No admin user: pulls and pushes are by identity. `infra/ship.py` adds the purge task.
param location string
param tags object
param suffix string
param sku string
param workspaceId string

resource registry 'Microsoft.ContainerRegistry/registries@2025-04-01' = {
  // checkov:skip=CKV_AZURE_166: quarantine needs Premium and a scanner that releases images
  // checkov:skip=CKV_AZURE_139: a private registry needs Premium; pulls and pushes need an identity with AcrPull or AcrPush
  // checkov:skip=CKV_AZURE_163: scanning is Defender for Containers, a choice for the whole subscription
  name: 'cr${suffix}'
  location: location
  tags: tags
  sku: { name: sku }
  properties: {
    adminUserEnabled: false
    anonymousPullEnabled: false
    publicNetworkAccess: 'Enabled'
    networkRuleBypassOptions: 'AzureServices'
  }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: registry
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'ContainerRegistryLoginEvents', enabled: true }, { category: 'ContainerRegistryRepositoryEvents', enabled: true }]
  }
}

output name string = registry.name
output loginServer string = registry.properties.loginServer
