// A container group deleted behind our back wakes the autoscaler: Event Grid writes a message into the queue of wakes.
param tags object
param suffix string
param storageName string
param queueName string
param workspaceId string

resource storage 'Microsoft.Storage/storageAccounts@2025-01-01' existing = {
  name: storageName
}

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: 'evgt-${suffix}'
  location: 'global'
  tags: tags
  identity: { type: 'SystemAssigned' }
  properties: { source: resourceGroup().id, topicType: 'Microsoft.Resources.ResourceGroups' }
}

resource sender 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: storage
  name: guid(storage.id, topic.id, 'sender')
  properties: {
    // Storage Queue Data Message Sender
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a')
    principalId: topic.identity.principalId
    principalType: 'ServicePrincipal'
  }
}

resource deletions 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: 'deleted-container-groups'
  dependsOn: [sender]
  properties: {
    deliveryWithResourceIdentity: {
      identity: { type: 'SystemAssigned' }
      destination: {
        endpointType: 'StorageQueue'
        properties: { resourceId: storage.id, queueName: queueName, queueMessageTimeToLiveInSeconds: 300 }
      }
    }
    eventDeliverySchema: 'EventGridSchema'
    filter: {
      includedEventTypes: ['Microsoft.Resources.ResourceDeleteSuccess']
      advancedFilters: [{ operatorType: 'StringIn', key: 'data.operationName', values: ['Microsoft.ContainerInstance/containerGroups/delete'] }]
    }
    retryPolicy: { maxDeliveryAttempts: 5, eventTimeToLiveInMinutes: 5 }
  }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: topic
  name: 'to-workspace'
  properties: { workspaceId: workspaceId, logs: [{ category: 'DeliveryFailures', enabled: true }] }
}
