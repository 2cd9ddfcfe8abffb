// The function app, Flex Consumption. Its application settings are what scaler/settings.py reads: a test keeps them so.
param location string
param tags object
param suffix string
param deploymentId string
param identityId string
param clientId string
param insightsName string
param workspaceCustomerId string
param storageName string
param packagesName string
param tickSchedule string
param auth string
param memoryMb int
param maxInstances int
param alwaysReady int

@description('Empty: the app stays outside any network.')
param subnetId string

@description('Address of the secret in Key Vault that replicas ask for as a bearer token.')
param replicaTokenUri string

@description('Address of the secret that certificates of replicas are signed by; empty: replicas serve plain HTTP.')
param replicaAuthorityUri string

@description('False: replicas made from now on serve plain HTTP; those that still serve TLS are believed until they are replaced.')
param replicaTls bool

@description('Address of the secret that is the webhook of events, and of the one they are signed with; empty: none.')
param eventsUrlUri string
param eventsSecretUri string
param workspaceId string
param hostLogs bool

@description('Address of the PEM (key and chain) that Envoy serves with; empty: plain text, behind something that does TLS.')
param frontCertificateUri string
param registryServer string
param replicaIdentityId string
param imageTag string
param envoyImage string
param frontIdentityId string
param frontClientId string
param frontSubnetId string
param frontZoneId string

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource storage 'Microsoft.Storage/storageAccounts@2025-01-01' existing = {
  name: storageName
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  // checkov:skip=CKV_AZURE_225: one tick missed while a zone fails is caught up by the next; zones cost nothing but are not in every region
  name: 'plan-${suffix}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  // checkov:skip=CKV_AZURE_222: the admin API is for people and Event Grid; it asks for a key or for Entra ID
  // checkov:skip=CKV_AZURE_17: callers prove themselves by key or token; certificates would keep the dashboard out of browsers
  // checkov:skip=CKV_AZURE_212: Flex Consumption runs as many instances as there is work for, none included
  // checkov:skip=CKV_AZURE_213: Flex Consumption has no health check path; the alert `missed-ticks` watches instead
  name: 'func-${suffix}'
  location: location
  tags: union(tags, { 'azd-service-name': 'autoscaler' })
  kind: 'functionapp,linux'
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identityId}': {} } }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientCertEnabled: false
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    keyVaultReferenceIdentity: identityId
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${storage.properties.primaryEndpoints.blob}${packagesName}'
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identityId }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: memoryMb
        maximumInstanceCount: maxInstances
        alwaysReady: alwaysReady == 0 ? [] : [{ name: 'function:tick', instanceCount: alwaysReady }]
      }
      runtime: { name: 'python', version: '3.12' }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ftpsState: 'Disabled'
      http20Enabled: true
      remoteDebuggingEnabled: false
      appSettings: [
        { name: 'AzureWebJobsStorage__blobServiceUri', value: storage.properties.primaryEndpoints.blob }
        { name: 'AzureWebJobsStorage__queueServiceUri', value: storage.properties.primaryEndpoints.queue }
        { name: 'AzureWebJobsStorage__tableServiceUri', value: storage.properties.primaryEndpoints.table }
        { name: 'AzureWebJobsStorage__credential', value: 'managedidentity' }
        { name: 'AzureWebJobsStorage__clientId', value: clientId }
        { name: 'APPLICATIONINSIGHTS_CONNECTION_STRING', value: insights.properties.ConnectionString }
        { name: 'APPLICATIONINSIGHTS_AUTHENTICATION_STRING', value: 'ClientId=${clientId};Authorization=AAD' }
        { name: 'AUTOSCALER_DEPLOYMENT_ID', value: deploymentId }
        { name: 'AZURE_SUBSCRIPTION_ID', value: subscription().subscriptionId }
        { name: 'AUTOSCALER_RESOURCE_GROUP', value: resourceGroup().name }
        { name: 'AUTOSCALER_TABLE_ENDPOINT', value: storage.properties.primaryEndpoints.table }
        { name: 'AUTOSCALER_QUEUE_ENDPOINT', value: storage.properties.primaryEndpoints.queue }
        { name: 'AUTOSCALER_METRICS_ENDPOINT', value: 'https://${location}.metrics.monitor.azure.com' }
        { name: 'AUTOSCALER_LOGS_WORKSPACE', value: workspaceCustomerId }
        { name: 'AUTOSCALER_TICK_SCHEDULE', value: tickSchedule }
        { name: 'AUTOSCALER_AUTH', value: auth }
        { name: 'AZURE_CLIENT_ID', value: clientId }
        { name: 'REPLICA_TOKEN', value: '@Microsoft.KeyVault(SecretUri=${replicaTokenUri})' }
        { name: 'REPLICA_TLS', value: replicaTls ? 'true' : 'false' }
        { name: 'REPLICA_AUTHORITY', value: empty(replicaAuthorityUri) ? '' : '@Microsoft.KeyVault(SecretUri=${replicaAuthorityUri})' }
        { name: 'AUTOSCALER_EVENTS_URL', value: empty(eventsUrlUri) ? '' : '@Microsoft.KeyVault(SecretUri=${eventsUrlUri})' }
        { name: 'AUTOSCALER_EVENTS_SECRET', value: empty(eventsSecretUri) ? '' : '@Microsoft.KeyVault(SecretUri=${eventsSecretUri})' }
        { name: 'TEMPLATE_REPLICA_IMAGE', value: empty(imageTag) ? '' : '${registryServer}/replica:${imageTag}' }
        { name: 'TEMPLATE_REGISTRY', value: registryServer }
        { name: 'TEMPLATE_REPLICA_IDENTITY', value: replicaIdentityId }
        { name: 'TEMPLATE_SUBNET', value: frontSubnetId }
        { name: 'FRONT_ENVOY_IMAGE', value: '${registryServer}/${envoyImage}' }
        { name: 'FRONT_DISCOVERY_IMAGE', value: empty(imageTag) ? '' : '${registryServer}/discovery:${imageTag}' }
        { name: 'FRONT_REGION', value: location }
        { name: 'FRONT_IDENTITY', value: frontIdentityId }
        { name: 'FRONT_CLIENT_ID', value: frontClientId }
        { name: 'FRONT_DNS_LABEL', value: empty(frontSubnetId) ? 'aci-autoscaler-${suffix}' : '' }
        { name: 'FRONT_SUBNET', value: frontSubnetId }
        { name: 'FRONT_ZONE', value: frontZoneId }
        { name: 'FRONT_CERTIFICATE', value: empty(frontCertificateUri) ? '' : '@Microsoft.KeyVault(SecretUri=${frontCertificateUri})' }
      ]
    }
  }
}

resource noBasicFtp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'ftp'
  properties: { allow: false }
}

resource noBasicScm 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'scm'
  properties: { allow: false }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: app
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'FunctionAppLogs', enabled: hostLogs }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

output name string = app.name
output url string = 'https://${app.properties.defaultHostName}'
