// Who may do what, each right at the smallest scope that Azure accepts. docs/deploy.md says what each is for.
param roles object
param autoscalerPrincipalId string
param replicaPrincipalId string
param frontPrincipalId string
param gatewayPrincipalId string
param replicaIdentityName string
param frontIdentityName string
param storageName string
param registryName string
param vaultName string
param workspaceName string
param insightsName string

@description('Empty in the variant `public`.')
param networkName string
param zoneName string

@description('Whoever deploys; may read and write the tables, so that `doctor` works from a desk. Empty: nobody.')
param personId string

var network = !empty(networkName)
var assign = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '')
var blobOwner = '${assign}b7e6dc6d-f1e8-4753-8033-0f276bb0955b' // Storage Blob Data Owner: the host's locks and packages
var tableContributor = '${assign}0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3' // Storage Table Data Contributor
var queueContributor = '${assign}974c5e8b-45b9-4653-ba55-5f855dd0fb88' // Storage Queue Data Contributor
var queueSender = '${assign}c6a89b2d-59bc-44d0-9896-0f6e12d7b80a' // Storage Queue Data Message Sender
var acrPull = '${assign}7f951dda-4ed3-4680-a7ca-43fe172d538d' // AcrPull
var secretsUser = '${assign}4633458b-17de-408a-b874-0445c86b69e6' // Key Vault Secrets User
var metricsPublisher = '${assign}3913510d-42f4-4e42-8a64-420c390055eb' // Monitoring Metrics Publisher

resource storage 'Microsoft.Storage/storageAccounts@2025-01-01' existing = {
  name: storageName
}

resource registry 'Microsoft.ContainerRegistry/registries@2025-04-01' existing = {
  name: registryName
}

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' existing = {
  name: vaultName
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' existing = {
  name: workspaceName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource replicaIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: replicaIdentityName
}

resource frontIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: frontIdentityName
}

resource subnet 'Microsoft.Network/virtualNetworks/subnets@2024-05-01' existing = if (network) {
  name: '${networkName}/groups'
}

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' existing = if (network) {
  name: zoneName
}

resource groups 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(resourceGroup().id, autoscalerPrincipalId, 'groups')
  properties: { roleDefinitionId: roles.groups, principalId: autoscalerPrincipalId, principalType: 'ServicePrincipal' }
}

resource assignReplica 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: replicaIdentity
  name: guid(replicaIdentity.id, autoscalerPrincipalId, 'assign')
  properties: { roleDefinitionId: roles.identities, principalId: autoscalerPrincipalId, principalType: 'ServicePrincipal' }
}

resource assignFront 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: frontIdentity
  name: guid(frontIdentity.id, autoscalerPrincipalId, 'assign')
  properties: { roleDefinitionId: roles.identities, principalId: autoscalerPrincipalId, principalType: 'ServicePrincipal' }
}

resource joinSubnet 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (network) {
  scope: subnet
  name: guid(resourceGroup().id, autoscalerPrincipalId, 'subnets')
  properties: { roleDefinitionId: roles.subnets, principalId: autoscalerPrincipalId, principalType: 'ServicePrincipal' }
}

resource writeRecord 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (network) {
  scope: zone
  name: guid(resourceGroup().id, autoscalerPrincipalId, 'records')
  properties: { roleDefinitionId: roles.records, principalId: autoscalerPrincipalId, principalType: 'ServicePrincipal' }
}

resource askLogs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: workspace
  name: guid(workspace.id, autoscalerPrincipalId, 'logs')
  properties: { roleDefinitionId: roles.logs, principalId: autoscalerPrincipalId, principalType: 'ServicePrincipal' }
}

resource data 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in [blobOwner, tableContributor, queueContributor]: {
  scope: storage
  name: guid(storage.id, autoscalerPrincipalId, role)
  properties: { roleDefinitionId: role, principalId: autoscalerPrincipalId, principalType: 'ServicePrincipal' }
}]

resource frontData 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in [tableContributor, queueSender]: {
  scope: storage
  name: guid(storage.id, frontPrincipalId, role)
  properties: { roleDefinitionId: role, principalId: frontPrincipalId, principalType: 'ServicePrincipal' }
}]

resource pulls 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for principal in [replicaPrincipalId, frontPrincipalId]: {
  scope: registry
  name: guid(registry.id, principal, acrPull)
  properties: { roleDefinitionId: acrPull, principalId: principal, principalType: 'ServicePrincipal' }
}]

resource secrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for principal in [autoscalerPrincipalId, gatewayPrincipalId]: {
  scope: vault
  name: guid(vault.id, principal, secretsUser)
  properties: { roleDefinitionId: secretsUser, principalId: principal, principalType: 'ServicePrincipal' }
}]

resource telemetry 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: insights
  name: guid(insights.id, autoscalerPrincipalId, metricsPublisher)
  properties: { roleDefinitionId: metricsPublisher, principalId: autoscalerPrincipalId, principalType: 'ServicePrincipal' }
}

resource person 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(personId)) {
  scope: storage
  name: guid(storage.id, personId, tableContributor)
  properties: { roleDefinitionId: tableContributor, principalId: personId }
}
