// Application Gateway in front of Envoy: TLS with the certificate from Key Vault, nothing in plain text. It finds Envoy by
// a name in a private zone, which the autoscaler keeps right: one record instead of a PUT of the whole gateway.
param location string
param tags object
param suffix string
param subnetId string
param identityId string
param workspaceId string

@description('The name that Envoy has in the private zone.')
param frontName string

@description('Address of the certificate in Key Vault, without a version: renewals are then found by themselves.')
param certificateSecretId string

@description('True: WAF_v2 with the rules of OWASP; false: Standard_v2.')
param firewall bool
param minInstances int
param maxInstances int

var name = 'agw-${suffix}'
var self = resourceId('Microsoft.Network/applicationGateways', name)
var tier = firewall ? 'WAF_v2' : 'Standard_v2'

resource address 'Microsoft.Network/publicIPAddresses@2024-05-01' = {
  name: 'pip-agw-${suffix}'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIPAllocationMethod: 'Static', dnsSettings: { domainNameLabel: 'aci-autoscaler-${suffix}' } }
}

resource rules 'Microsoft.Network/ApplicationGatewayWebApplicationFirewallPolicies@2024-05-01' = if (firewall) {
  // checkov:skip=CKV_AZURE_135: OWASP 3.2 has rule 944240 on unless it is disabled, and it is not
  name: 'waf-${suffix}'
  location: location
  tags: tags
  properties: {
    policySettings: { state: 'Enabled', mode: 'Prevention', requestBodyCheck: true, maxRequestBodySizeInKb: 2000 }
    managedRules: { managedRuleSets: [{ ruleSetType: 'OWASP', ruleSetVersion: '3.2' }] }
  }
}

resource gateway 'Microsoft.Network/applicationGateways@2024-05-01' = {
  name: name
  location: location
  tags: tags
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identityId}': {} } }
  properties: {
    sku: { name: tier, tier: tier }
    autoscaleConfiguration: { minCapacity: minInstances, maxCapacity: maxInstances }
    firewallPolicy: firewall ? { id: rules.id } : null
    sslPolicy: { policyType: 'Predefined', policyName: 'AppGwSslPolicy20220101S' }
    sslCertificates: [{ name: 'front', properties: { keyVaultSecretId: certificateSecretId } }]
    gatewayIPConfigurations: [{ name: 'subnet', properties: { subnet: { id: subnetId } } }]
    frontendIPConfigurations: [{ name: 'public', properties: { publicIPAddress: { id: address.id } } }]
    frontendPorts: [{ name: 'https', properties: { port: 443 } }]
    backendAddressPools: [{ name: 'envoy', properties: { backendAddresses: [{ fqdn: frontName }] } }]
    backendHttpSettingsCollection: [
      {
        name: 'envoy'
        properties: {
          port: 8080
          protocol: 'Http'
          cookieBasedAffinity: 'Disabled'
          // Longer than Envoy holds a request at zero and then computes it.
          requestTimeout: 500
          pickHostNameFromBackendAddress: false
          probe: { id: '${self}/probes/envoy' }
        }
      }
    ]
    probes: [
      {
        name: 'envoy'
        properties: {
          protocol: 'Http'
          host: 'health'
          path: '/drain'
          interval: 5
          timeout: 3
          unhealthyThreshold: 2
          // Envoy itself answers this path, whether replicas exist or not: 404 says that it is there.
          match: { statusCodes: ['404'] }
        }
      }
    ]
    httpListeners: [
      {
        name: 'https'
        properties: {
          frontendIPConfiguration: { id: '${self}/frontendIPConfigurations/public' }
          frontendPort: { id: '${self}/frontendPorts/https' }
          protocol: 'Https'
          sslCertificate: { id: '${self}/sslCertificates/front' }
        }
      }
    ]
    requestRoutingRules: [
      {
        name: 'all'
        properties: {
          ruleType: 'Basic'
          priority: 100
          httpListener: { id: '${self}/httpListeners/https' }
          backendAddressPool: { id: '${self}/backendAddressPools/envoy' }
          backendHttpSettings: { id: '${self}/backendHttpSettingsCollection/envoy' }
        }
      }
    ]
  }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: gateway
  name: 'to-workspace'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'ApplicationGatewayAccessLog', enabled: true }, { category: 'ApplicationGatewayFirewallLog', enabled: true }]
  }
}

output url string = 'https://${address.properties.dnsSettings.fqdn}'
